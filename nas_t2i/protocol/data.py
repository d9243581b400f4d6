"""What is trained on: the embedded data set, or pairs of image and caption from several sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nas_t2i.expressions import Expression
from nas_t2i.protocol.part import Named, Part


class ShapesData(Part):
    """The embedded data set: images of coloured shapes with captions."""

    source: Literal["shapes"]
    scenes: int = Field(ge=1, description="training scenes")
    two_objects: float = Field(ge=0, le=1, description="share of scenes with two single objects")
    two_groups: float = Field(ge=0, le=1, description="share of scenes with a single and a pair")
    curriculum: float = Field(
        ge=0, le=1, description="share of the steps over which scenes open from easy to all"
    )
    three_objects: float = Field(
        default=0.0, ge=0, le=1, description="share of scenes with three single objects"
    )
    left_out_pairs: int = Field(
        default=0, ge=0, le=12, description="pairs of a shape and a colour never trained on"
    )


class Source(Part, ABC):
    """A source of pairs: what a plug-in of the kind ``data_sources`` derives from.

    It names where pairs lie and lists them in parts; which of them are kept, in which order they
    come and how they become tensors is the same for all sources.
    """

    EMBEDDED: ClassVar[bool] = False  # its captions are those of the embedded data set
    EXAMPLE: ClassVar[Mapping[str, Any]] = {}  # settings to check its contract with

    source: str
    weight: float = Field(default=1.0, gt=0, description="relative to the other sources'")

    @abstractmethod
    def parts(self, where: str) -> Sequence[Any]:
        """Return the parts (`nas_t2i.data.sources.common.parts.Part`) in a lasting order.

        `where` is the key path of the source, for messages. Raises ConfigError.
        """

    @abstractmethod
    def described(self) -> str:
        """Name the source, for tables: its path, its URLs."""


class CaptionField(Part):
    """A metadata field that holds a caption, or a list of captions best first.

    ``txt`` is the text file beside the image; any other name is a key of its metadata.
    """

    field: str = Field(min_length=1)
    probability: float = Field(gt=0, le=1, description="of being the one that is trained on")
    first: int | None = Field(
        default=None, ge=1, description="of a list: draw among the first so many; null: among all"
    )


def _readable(expression: str) -> str:
    Expression(expression)
    return expression


class FilterRule(Part):
    """Keep a pair only where an expression over its metadata holds (nas_t2i.expressions)."""

    keep: Annotated[str, AfterValidator(_readable)] = Field(
        description="for example: aesthetic >= 5 and punsafe < 0.5"
    )
    missing: Literal["drop", "keep", "error"] = Field(
        description="what becomes of a pair that lacks a field of the expression"
    )


class Duplicates(Part):
    """Keep the first of the images that look the same."""

    hash: str = Field(
        description="a metadata field with a 64-bit hash in hex, or 'phash': computed from pixels"
    )
    distance: int = Field(ge=0, le=8, description="hashes so many bits apart are the same image")


class PairsData(Part):
    """Users' own pairs of image and caption, from several weighted sources.

    An image is scaled until its shorter side is `resolution`, then cropped to the centre square.
    """

    source: Literal["pairs"]
    sources: Annotated[
        tuple[Annotated[Source, Named("data_sources", "source")], ...],
        Field(strict=False, min_length=1),
    ]
    resolution: int = Field(ge=8, description="side of a training image, pixels")
    captions: Annotated[tuple[CaptionField, ...], Field(strict=False, min_length=1)]
    filters: Annotated[tuple[FilterRule, ...], Field(strict=False)] = ()
    duplicates: Duplicates | None = None
    max_pixels: int = Field(
        default=100_000_000, ge=1, description="larger images, by their header, are bad samples"
    )
    bad_share: float = Field(
        ge=0, lt=1, description="share of samples that may be unreadable before the run stops"
    )
    held_out: int = Field(
        default=0,
        ge=0,
        description="pairs that no trial trains on, from the sources by weight, for the signals; "
        "the metric heldout_r2 holds out its own",
    )
    cache: str | None = Field(
        description="folder of encoded pairs (nas-t2i data prepare); null: encode on line"
    )

    @model_validator(mode="after")
    def _probabilities_add_up(self) -> Self:
        total = sum(field.probability for field in self.captions)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"captions: got probabilities that add up to {total:g}; expected 1")
        return self
