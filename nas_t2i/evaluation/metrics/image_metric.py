"""What the metrics that score one picture and its prompt have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from nas_t2i.conditioning.weights import digest_of
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import expand_path

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
# Of one forward pass, which bounds its memory.
_IMAGES_AT_ONCE = 32


class ImageMetric(Protocol):
    """A score of one picture and its prompt; larger is better."""

    name: str  # of the metric, in records
    identity: str  # weights, options, resize rule, dtype, libraries: what makes scores comparable

    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """Score RGB pictures of any size, one prompt each; a score depends on its pair only.

        Which pictures share a pass moves a score in its last float32 digits, no more.

        Raises:
            ValueError: not one prompt a picture.
        """
        ...


def batches(
    images: list[Image.Image], prompts: list[str], pixels: Callable[[Image.Image], Tensor]
) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield (N, 3, H, W) batches of prepared pictures and their prompts. Raises ValueError."""
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} pictures but {len(prompts)} prompts")
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        rows = slice(start, start + _IMAGES_AT_ONCE)
        yield torch.stack([pixels(image) for image in images[rows]]), prompts[rows]


def identity_of(name: str, facts: Mapping[str, object], *packages: str) -> str:
    """Return one line: the name, all that decides a score, and the packages' versions."""
    told = {**facts, **{package: version(package) for package in packages}}
    return "; ".join([name, *(f"{key}={value}" for key, value in told.items())])


def weights_file(path: str, where: str) -> Path:
    """Return the local file of weights that `path` names; `where` is the setting, for messages.

    Raises:
        ConfigError: no such file, or one that can't be weights.
    """
    file = expand_path(path, where)
    if not file.name.endswith(WEIGHTS):
        raise ConfigError(where, f"got {path!r}", expected=f"a file that ends in {_any_of()}")
    if not file.is_file():
        names = [p.name for p in file.parent.glob("*") if p.name.endswith(WEIGHTS)]
        raise ConfigError(where, f"no file {str(file)!r}", hint=did_you_mean(file.name, names))
    return file


def weights_digest(file: Path) -> str:
    """Return the sha256 of a file of weights, shortened to 20 digits."""
    return digest_of(file)[:20]


def check_tensors(
    file: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], model: str
) -> None:
    """Check that a checkpoint has the names and the shapes of a model. Raises ConfigError."""
    problem = _difference(found, expected)
    if problem:
        raise ConfigError(str(file), f"not weights of {model}: {problem}")


def _difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    missing = sorted(expected.keys() - found.keys())
    if missing:
        return f"no {missing[0]} ({len(missing)} tensors are missing)"
    more = sorted(found.keys() - expected.keys())
    if more:
        return f"{more[0]} ({len(more)} tensors too many)"
    for name, value in expected.items():
        if found[name].shape != value.shape:
            return f"{name} is {_by(found[name].shape)}, not {_by(value.shape)}"
    return ""


def _by(shape: torch.Size) -> str:
    return " x ".join(map(str, shape)) or "a scalar"


def _any_of() -> str:
    return ", ".join(WEIGHTS)
