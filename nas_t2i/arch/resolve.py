"""What a user may write for an architecture -> (name, Arch).

A name of the catalogue, a YAML or JSON file of an architecture, a diffusers ``config.json``, or
parameters inline: ``family=unet,channels=320,channel_mult=[1,2,4],transformer_depth=[0,2,10]``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nas_t2i.arch.catalog import CATALOG, name_of
from nas_t2i.arch.families import arch_from_dict, arch_from_document
from nas_t2i.arch.spec import Arch, JsonDict
from nas_t2i.errors import ArchError, ConfigError, did_you_mean
from nas_t2i.yaml_files import Document, describe, load_document, parse_document

FILE_SUFFIXES = (".yaml", ".yml", ".json")


class Resolved(NamedTuple):
    """An architecture, its name, and what of the source it leaves out (for the user to know)."""

    name: str
    arch: Arch
    notes: tuple[str, ...] = ()


def resolve_arch(text: str) -> Resolved:
    """Find the architecture that a user means.

    Raises:
        ArchError: no such name, or parameters that name no buildable architecture.
        ConfigError: a file that can't be read, or a place in it that can't be used.
    """
    text = text.strip()
    if text in CATALOG:
        return Resolved(text, CATALOG[text])
    if Path(text).suffix in FILE_SUFFIXES or Path(text).is_file():
        return _from_file(text)
    if "=" in text:
        arch = arch_from_dict(_parse_inline(text), origin=text)
        return Resolved(name_of(arch), arch)
    hint = did_you_mean(text, CATALOG) or f"the backbones of the paper: {', '.join(CATALOG)}"
    raise ArchError(
        f"got the architecture {text!r}; expected a backbone of the paper, a YAML or JSON file, "
        f"or family=...,channels=...; {hint}"
    )


# ---- inline ------------------------------------------------------------------------------------


def _parse_inline(text: str) -> JsonDict:
    """Parse ``key=value,key=[v, v],key={k: v}`` with values as in YAML."""
    data: JsonDict = {}
    # A comma separates two parameters where a "key=" follows; inside a value none does.
    for pair in re.split(r",(?=\s*\w+\s*=)", text):
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not key or not equals:
            raise ArchError(f"{text}: got {pair!r}; expected key=value")
        if key in data:
            raise ArchError(f"{text}: the key {key!r} stands twice; expected each key once")
        try:
            data[key] = parse_document(f"value: {value.strip()}", text).data["value"]
        except ConfigError:
            problem = f"{text}: {key}: got {value.strip()!r}"
            raise ArchError(f"{problem}; expected a value, a [list] or a {{mapping}}") from None
    return data


# ---- files -------------------------------------------------------------------------------------


def _from_file(path: str) -> Resolved:
    document = load_document(path)
    if "_class_name" in document.data:
        return _from_diffusers(document)
    arch = arch_from_document(document)
    return Resolved(name_of(arch), arch)


# Additional conditions that the study strips from every backbone (pooled text, sizes, crops).
_STRIPPED = {
    "addition_embed_type",
    "addition_embed_type_num_heads",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "use_additional_conditions",
}
# Change neither the parameters nor the operations: how values are scaled, dropped, cast or stored.
_NEUTRAL = {
    "sample_size",
    "center_input_sample",
    "downsample_padding",
    "dropout",
    "flip_sin_to_cos",
    "freq_shift",
    "interpolation_scale",
    "mid_block_scale_factor",
    "norm_eps",
    "num_embeds_ada_norm",
    "resnet_out_scale_factor",
    "upcast_attention",
}
# Our parameter -> the configuration's key, to say where a value that can't be used stands.
_KEY_OF = {
    "channels": "block_out_channels",
    "channel_mult": "block_out_channels",
    "res_blocks": "layers_per_block",
    "transformer_depth": "transformer_layers_per_block",
    "mid_depth": "transformer_layers_per_block",
    "head_dim": "attention_head_dim",
    "norm_groups": "norm_num_groups",
    "text_dim": "cross_attention_dim",
    "latent_channels": "in_channels",
    "hidden": "attention_head_dim",
    "depth": "num_layers",
    "heads": "num_attention_heads",
    "patch": "patch_size",
    "caption_embedding": "caption_channels",
}


def _from_diffusers(document: Document) -> Resolved:
    """Read a model's ``config.json``.

    The configuration is read into an architecture, whose own configuration must then give the
    same: whatever the architecture can't express is an error that names the key.
    """
    readers: dict[str, Callable[[Document, JsonDict], JsonDict]] = {
        "UNet2DConditionModel": _read_unet,
        "PixArtTransformer2DModel": _read_pixart,
    }
    given = {k: v for k, v in document.data.items() if not k.startswith("_")}
    class_name = document.data["_class_name"]
    if class_name == "Transformer2DModel" and given.get("norm_type") == "ada_norm_single":
        # What PixArt's class was called before it had one of its own.
        class_name = "PixArtTransformer2DModel"
        given = _without_foreign(document, given)
    if class_name not in readers:
        document.fail(
            ["_class_name"],
            f"got {describe(class_name)}",
            expected=f"one of {', '.join(readers)}",
            hint=did_you_mean(str(class_name), readers),
        )
    defaults = _defaults(class_name)
    for key in given:
        if key not in defaults:
            hint = did_you_mean(key, defaults)
            document.fail(
                [key], f"unknown key {key!r}", expected=f"a key of {class_name}", hint=hint
            )
    config = {**defaults, **given}
    data = readers[class_name](document, config)
    try:
        arch = arch_from_dict(data)
    except ArchError as error:
        parameter, _, problem = str(error).partition(": ")
        document.fail([_KEY_OF[re.split(r"[.\[]", parameter)[0]]], problem)
    # Any latent side that fits will do: it is not part of the architecture.
    side = 1024 * data.get("patch", 1)
    expressed = {**defaults, **arch.diffusers_config(side)[1]}
    for key, value in config.items():
        if key in _NEUTRAL or key in _STRIPPED or _equal(key, value, expressed[key], config):
            continue
        document.fail(
            [key],
            f"got {describe(value)}, which no architecture of the family {arch.FAMILY} has",
            expected=describe(expressed[key]),
        )
    return Resolved(name_of(arch), arch, tuple(_notes(document.file, config, class_name)))


def _notes(file: str, config: JsonDict, class_name: str) -> list[str]:
    notes = []
    kind = config.get("addition_embed_type")
    if kind is not None:
        notes.append(f"{file}: addition_embed_type {describe(kind)} is left out, as in the paper")
    # Unset, diffusers adds the conditions at this one latent size.
    conditions = config.get("use_additional_conditions")
    implied = class_name.startswith("PixArt") and config.get("sample_size") == 128
    if conditions or (conditions is None and implied):
        notes.append(f"{file}: the additional size conditions are left out, as in the paper")
    return notes


def _defaults(class_name: str) -> JsonDict:
    """Return the defaults of a diffusers class, in JSON's types."""
    import diffusers

    parameters = inspect.signature(getattr(diffusers, class_name).__init__).parameters.values()
    return {
        p.name: list(p.default) if isinstance(p.default, tuple) else p.default
        for p in parameters
        if p.default is not inspect.Parameter.empty
    }


def _without_foreign(document: Document, given: JsonDict) -> JsonDict:
    """Drop the old class's keys that PixArt has no use for; they must stand at their defaults."""
    ours, old = _defaults("PixArtTransformer2DModel"), _defaults("Transformer2DModel")
    for key, value in given.items():
        if key not in ours and key in old and value != old[key]:
            document.fail([key], f"got {describe(value)}", expected=describe(old[key]))
    return {k: v for k, v in given.items() if k in ours or k not in old}


def _equal(key: str, given: Any, expressed: Any, config: Mapping[str, Any]) -> bool:
    """Compare two values of a key: one number stands for the same at every level."""
    levels = len(config.get("block_out_channels", ()))
    if key in _BY_LEVEL and levels:
        given, expressed = _per_level(given, levels), _per_level(expressed, levels)
        attends = _attends(config)
        if key in ("transformer_layers_per_block", "attention_head_dim"):
            # Read by nothing where there is no attention.
            given = [g for g, a in zip(given, attends, strict=False) if a]
            expressed = [e for e, a in zip(expressed, attends, strict=False) if a]
    return bool(given == expressed)


_BY_LEVEL = (
    "layers_per_block",
    "transformer_layers_per_block",
    "attention_head_dim",
    "cross_attention_dim",
    "only_cross_attention",
)


def _per_level(value: Any, levels: int) -> list[Any]:
    return list(value) if isinstance(value, list) else [value] * levels


def _attends(config: Mapping[str, Any]) -> list[bool]:
    """Tell the levels whose numbers are read by attention; the mid block reads the last level's."""
    attends = ["CrossAttn" in str(kind) for kind in config["down_block_types"]]
    if "CrossAttn" in str(config["mid_block_type"]):
        attends[-1] = True
    return attends


def _read_unet(document: Document, config: JsonDict) -> JsonDict:
    """Read the parameters of a UNet2DConditionModel, as far as they are of the right shape."""
    widths = config["block_out_channels"]
    if not isinstance(widths, list) or not widths or not all(_is_count(w) for w in widths):
        document.fail(
            ["block_out_channels"], f"got {describe(widths)}", expected="a list of widths"
        )
    channels = math.gcd(*widths)
    levels = len(widths)
    types = config["down_block_types"]
    if not isinstance(types, list) or len(types) != levels:
        document.fail(
            ["down_block_types"],
            f"got {describe(types)}",
            expected=f"{levels} names, one for each of block_out_channels",
        )
    known = {
        "CrossAttnDownBlock2D": "unet",
        "DownBlock2D": "unet",
        "SimpleCrossAttnDownBlock2D": "if_unet",
        "ResnetDownsampleBlock2D": "if_unet",
    }
    for place, kind in enumerate(types):
        if kind not in known:
            document.fail(
                ["down_block_types", place],
                f"got {describe(kind)}",
                expected=f"one of {', '.join(known)}",
                hint=did_you_mean(str(kind), known),
            )
    family = known[types[0]]
    depths, heads = config["transformer_layers_per_block"], config["attention_head_dim"]
    for key, value in (("transformer_layers_per_block", depths), ("attention_head_dim", heads)):
        counts = _per_level(value, levels)
        if len(counts) != levels or not all(_is_count(c) for c in counts):
            document.fail(
                [key], f"got {describe(value)}", expected="a number, or one for each level"
            )
    attends = ["CrossAttn" in kind for kind in types]
    mid_attends = "CrossAttn" in str(config["mid_block_type"])
    depth_of = _per_level(depths, levels) if family == "unet" else [1] * levels
    # One head size for all: read it where there is attention, the other levels must agree.
    deepest = max((i for i, a in enumerate(_attends(config)) if a), default=0)
    at_deepest = _per_level(heads, levels)[deepest]
    head_dim = widths[deepest] // at_deepest if family == "unet" else at_deepest
    return {
        "family": family,
        "channels": channels,
        "channel_mult": [width // channels for width in widths],
        "res_blocks": _per_level(config["layers_per_block"], levels)[0],
        "transformer_depth": [d if a else 0 for d, a in zip(depth_of, attends, strict=True)],
        "mid_depth": depth_of[-1] if mid_attends else 0,
        "head_dim": head_dim,
        "norm_groups": config["norm_num_groups"],
        "text_dim": _per_level(config["cross_attention_dim"], levels)[0],
        "latent_channels": config["in_channels"],
    }


def _read_pixart(document: Document, config: JsonDict) -> JsonDict:
    for key in ("num_attention_heads", "attention_head_dim", "in_channels", "patch_size"):
        if not _is_count(config[key]):
            document.fail([key], f"got {describe(config[key])}", expected="a whole number above 0")
    hidden = config["num_attention_heads"] * config["attention_head_dim"]
    caption = config["caption_channels"]
    return {
        "family": "pixart",
        "hidden": hidden,
        "depth": config["num_layers"],
        "heads": config["num_attention_heads"],
        "patch": config["patch_size"],
        "caption_embedding": caption is not None,
        "text_dim": hidden if caption is None else caption,
        "latent_channels": config["in_channels"],
    }


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
