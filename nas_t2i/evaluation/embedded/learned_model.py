"""The learned VQA model's network: a small convolutional network with one head a form of question.

It was trained once, in a minute and a half of one core, on images and what is true of them
(`learned_data`); it shares nothing with the VQA model that fits the renderer's shapes. The weights
are a function of the settings up to rounding, which may differ between kinds of processors. Those
of the default settings for scenes of two and of three groups are shipped; a digest of the weights
is part of the VQA model's identity.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from nas_t2i.data.embedded.shapes import COLORS, PLACES, SHAPES, SIZE
from nas_t2i.evaluation.embedded.learned_data import (
    NONE,
    PAIRS,
    SLOTS,
    Targets,
    examples,
    single_objects,
    to_tensor,
)
from nas_t2i.files import make_folder, write_atomically

_VERSION = 1  # raise when the data, the training or the network changes: part of the cache key
# What each head tells, in the order of `Targets`: things, and states of a thing.
_HEADS = (
    (len(SHAPES), len(COLORS)),  # there: a probability each
    (len(SHAPES), SLOTS + 1),  # number
    (1, len(COLORS)),  # seen: a probability each
    (len(SHAPES), len(COLORS)),  # color
    (len(COLORS), len(SHAPES)),  # shape
    (len(PAIRS), len(PLACES)),  # place
)
_SHIPPED = Path(__file__).parent  # where the weights of the default settings lie


@dataclass(frozen=True)
class LearnedSettings:
    """Everything the weights depend on."""

    width: int = 24  # channels of the first layers
    hidden: int = 192
    steps: int = 2000
    batch: int = 128
    learning_rate: float = 4e-3
    seed: int = 0
    groups: int = 2  # of objects that a scene among the lessons has at most

    @property
    def key(self) -> str:
        """Content hash: settings, code version, and what the objects look like."""
        settings = asdict(self)
        if self.groups == 2:
            del settings["groups"]  # a network from before it could be said
        text = json.dumps([_VERSION, settings], sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=10)
        for image in single_objects():
            digest.update(image.numpy().tobytes())
        return digest.hexdigest()


class Beliefs(NamedTuple):
    """Probabilities for N images, or without the first axis for one; see `Targets`."""

    there: npt.NDArray[np.float64]  # (N, shapes, colours)
    number: npt.NDArray[np.float64]  # (N, shapes, 0..SLOTS)
    seen: npt.NDArray[np.float64]  # (N, colours)
    color: npt.NDArray[np.float64]  # (N, shapes, colours), given that the shape is there
    shape: npt.NDArray[np.float64]  # (N, colours, shapes), given that the colour is there
    place: npt.NDArray[np.float64]  # (N, PAIRS, PLACES), given that both shapes are there


class Saying(Protocol):
    """Says how far training is."""

    def __call__(self, step: int, steps: int) -> None:
        """Called after every step."""


class ShapesNetwork(nn.Module):
    """Sees images (N, 3, SIZE, SIZE), 0..255; use `load_or_train` to get a trained one."""

    def __init__(self, settings: LearnedSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        self.layers = nn.Sequential(
            *_convolution(3, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (SIZE // 4) ** 2, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, sum(things * states for things, states in _HEADS)),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """The heads' logits, each (N, things, states)."""
        sizes = [things * states for things, states in _HEADS]
        parts = self.layers(images / 64 - 1).split(sizes, dim=1)
        return [part.unflatten(1, head) for part, head in zip(parts, _HEADS, strict=True)]

    @property
    def digest(self) -> str:
        """Hash of the weights."""
        digest = hashlib.blake2b(digest_size=6)
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode() + value.numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def look(self, images: npt.NDArray[np.uint8]) -> Beliefs:
        """What (N, SIZE, SIZE, 3) images seem to hold; each as if it were looked at alone."""
        # One at a time: in a batch of another size a sum may round otherwise.
        alone = [self(to_tensor(images[i : i + 1])) for i in range(len(images))]
        logits = [
            torch.cat([heads[h].double() for heads in alone])
            if alone
            else torch.empty(0, *head, dtype=torch.float64)
            for h, head in enumerate(_HEADS)
        ]
        return Beliefs(
            there=logits[0].sigmoid().numpy(),
            number=logits[1].softmax(-1).numpy(),
            seen=logits[2][:, 0].sigmoid().numpy(),
            color=logits[3].softmax(-1).numpy(),
            shape=logits[4].softmax(-1).numpy(),
            place=logits[5].softmax(-1).numpy(),
        )


def _convolution(inside: int, outside: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.GELU(),
    )


def train_network(settings: LearnedSettings, say: Saying | None = None) -> ShapesNetwork:
    """A trained, frozen network: a function of ``settings`` alone on one kind of processor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the same weights on any number of cores
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = ShapesNetwork(settings)
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=0.02, fused=True
        )
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _pace((step + 0.5) / settings.steps)
            images, truth = examples(
                settings.seed,
                "learned VQA model",
                step * settings.batch,
                settings.batch,
                settings.groups,
            )
            loss = _loss(network(images), truth)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if say:
                say(step + 1, settings.steps)
    finally:
        torch.set_num_threads(threads)
    return network.eval().requires_grad_(False)


def _pace(done: float) -> float:
    """Share of the learning rate: up in the first twentieth, then straight down to zero."""
    return min(done / 0.05, (1 - done) / 0.95)


def _loss(logits: list[Tensor], truth: Targets) -> Tensor:
    """Sum over the heads of their mean cross-entropies, in nats."""
    there, number, seen, color, shape, place = logits
    binary = functional.binary_cross_entropy_with_logits
    terms = [len(SHAPES) * binary(there, truth.there), binary(seen[:, 0], truth.seen)]
    for said, true in (
        (number, truth.number),
        (color, truth.color),
        (shape, truth.shape),
        (place, truth.place),
    ):
        terms.append(
            functional.cross_entropy(said.flatten(0, 1), true.flatten(), ignore_index=NONE)
        )
    return torch.stack(terms).sum()


def load_or_train(
    cache: Path, settings: LearnedSettings | None = None, say: Saying | None = None
) -> ShapesNetwork:
    """The network of ``settings``: shipped, from ``cache``, or trained now and written there.

    The file is ``shapes-vqa-<key>.safetensors``. That of the default settings is shipped: scores of
    different machines are comparable.

    Raises:
        StorageError: the cache can't be written.
    """
    settings = settings or LearnedSettings()
    name = f"shapes-vqa-{settings.key}.safetensors"
    path = _SHIPPED / name
    if not path.exists():
        path = cache / name
    if not path.exists():
        make_folder(cache)
        write_atomically(path, save(train_network(settings, say).state_dict()))
    # Read back even if just trained: what is used is what the next process will use.
    with torch.random.fork_rng(devices=[]):
        network = ShapesNetwork(settings)
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)
