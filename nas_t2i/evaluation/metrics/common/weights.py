"""What the models of metrics have in common: batches, identities, files of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from nas_t2i.conditioning.weights import by, digest_of, local_file
from nas_t2i.errors import ConfigError

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
# Of one forward pass, which bounds its memory.
_IMAGES_AT_ONCE = 32


def batches(
    images: list[Image.Image], prompts: list[str], pixels: Callable[[Image.Image], Tensor]
) -> Iterator[tuple[Tensor, list[str]]]:
    """Yield (N, 3, H, W) batches of prepared images and their prompts. Raises ValueError."""
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images but {len(prompts)} prompts")
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        rows = slice(start, start + _IMAGES_AT_ONCE)
        yield torch.stack([pixels(image) for image in images[rows]]), prompts[rows]


def identity_of(name: str, facts: Mapping[str, object], *packages: str) -> str:
    """Return one line: the name, all that decides a score, and the packages' versions."""
    all_facts = {**facts, **{package: version(package) for package in packages}}
    return "; ".join([name, *(f"{key}={value}" for key, value in all_facts.items())])


def weights_file(path: str, where: str) -> Path:
    """Return the local file of weights that `path` names; `where` is the setting, for messages.

    Raises:
        ConfigError: no such file, or one that can't be weights.
    """
    if not path.endswith(WEIGHTS):
        raise ConfigError(
            where, f"got {path!r}", expected=f"a file that ends in {', '.join(WEIGHTS)}"
        )
    return local_file(path, where, WEIGHTS)


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
            return f"{name} is {by(found[name].shape)}, not {by(value.shape)}"
    return ""
