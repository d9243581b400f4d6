"""What the parts of a budget are made of: strict frozen models, and fields that a plug-in fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from nas_t2i import plugins

# Sequences come from YAML as lists; everything else is held to its exact type.
Steps = Annotated[tuple[int, ...], Field(strict=False)]
Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)
]


class Part(BaseModel):
    """A part of a budget: a value, whose unknown keys and inexact types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class Named:
    """Marks a field whose settings belong to the plug-in that they name.

    ``Annotated[TextEncoderSettings, Named("text_encoders", "encoder")]`` reads
    ``{encoder: NAME, ...}`` as the settings of the text encoder NAME.

    Attributes:
        kind: of `nas_t2i.plugins.KINDS`.
        key: that holds the plug-in's name.
        default: the name where the key is left out; "": it must not be.
        role: a class attribute of the plug-in: the class of its settings in this role, True where
            the plug-in is them itself, None or False where it has no such role; "": always itself.
    """

    kind: str
    key: str
    default: str = ""
    role: str = ""

    def settings_class(self, name: str, folder: Path | None = None) -> type[BaseModel] | None:
        """Return the class of the settings; None: the plug-in has none in this role."""
        cls = plugins.find(self.kind, name, folder).cls
        role = getattr(cls, self.role) if self.role else True
        found: type[BaseModel] | None = cls if role is True else role or None
        return found

    def class_for(self, data: object) -> type[BaseModel] | None:
        """Return the class that plain data would be read as, None where its name is none."""
        if not isinstance(data, Mapping):
            return None
        name = data.get(self.key, self.default or None)
        if not isinstance(name, str) or not plugins.is_known(self.kind, name):
            return None
        try:
            return self.settings_class(name)
        except plugins.PluginError:
            return None

    def builtin_classes(self) -> dict[str, type[BaseModel]]:
        """Return the classes of the built-in plug-ins that have this role, by name."""
        classes = {name: self.settings_class(name) for name in plugins.builtin_names(self.kind)}
        return {name: cls for name, cls in classes.items() if cls is not None}

    def __get_pydantic_core_schema__(
        self, source: type[BaseModel], _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate by the named class; write out by the class that the value has."""

        def validate(value: object, info: core_schema.ValidationInfo) -> BaseModel:
            return self._validate(source, value, info.context)

        return core_schema.with_info_plain_validator_function(
            validate, serialization=core_schema.simple_ser_schema("any")
        )

    def _validate(self, source: type[BaseModel], value: object, context: Any) -> BaseModel:
        if isinstance(value, source):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("dict_type")
        name = value.get(self.key, self.default or None)
        if name is None:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": repr(self.key)})
        cls = None
        if plugins.is_known(self.kind, name):
            cls = self.settings_class(name, (context or {}).get("folder"))
        if cls is None:
            expected = ", ".join(map(repr, self.builtin_classes()))
            outside = [
                n for n in plugins.names(self.kind) if n not in plugins.builtin_names(self.kind)
            ]
            raise PydanticKnownError(
                "union_tag_invalid",
                {
                    "discriminator": repr(self.key),
                    "tag": str(name),
                    "expected_tags": ", ".join([expected, *map(repr, outside)]),
                },
            )
        return cls.model_validate(value, context=context)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Offer the settings of all built-in plug-ins, told apart by the name."""
        offered = [handler(cls.__pydantic_core_schema__) for cls in self.builtin_classes().values()]
        return offered[0] if len(offered) == 1 else {"oneOf": offered}
