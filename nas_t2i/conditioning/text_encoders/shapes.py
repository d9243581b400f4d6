"""The embedded benchmark's text encoder: a small transformer that parses captions.

It is trained once, in seconds, to tell from every word of a noun phrase what the phrase says
(shape, colour, number, and on which side of the next and of the last object it stands), and from
every word of a relation which relation it is. Then it is frozen; all architectures read the same
features. The features describe words in their context, one vector a token, as CLIP's do; nothing
pooled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from nas_t2i.data.embedded.shapes import (
    COLORS,
    NUMBERS,
    PLURALS,
    RELATIONS,
    SHAPES,
    Mixture,
    Scenes,
    captions,
    sample_scenes,
)
from nas_t2i.protocol.conditioning import TextEncoderSettings
from nas_t2i.protocol.data import PairsData, ShapesData

# Tokens by the groups that captions name: "a red circle to the left of two blue squares" is ten
# words, with "above a white cross" behind it 14.
TOKENS = {2: 12, 3: 16}
_VERSION = 1  # raise when training or the architecture changes: part of the cache key
_PAD = ""
_WORDS = sorted(
    {_PAD, "a", *COLORS, *SHAPES, *PLURALS, *NUMBERS}
    | {word for relation in RELATIONS for word in relation.split()}
)
_INDEX = {word: i for i, word in enumerate(_WORDS)}
_NONE = -100  # a target that is not asked for
# By the groups that captions name: the scenes that are learned from, and what a phrase's words are
# to tell. That is shape, colour, number and side: of the other of two (or that it is alone), of the
# next and of the last of three (or that there is none).
_SIDES = len(RELATIONS) + 1
_PHRASE_HEADS = {
    2: (len(SHAPES), len(COLORS), len(NUMBERS), _SIDES),
    3: (len(SHAPES), len(COLORS), len(NUMBERS), _SIDES, _SIDES),
}
_MIXTURES = {2: Mixture(0.6, 0.2), 3: Mixture(0.2, 0.1, 0.6)}
_RELATION_HEAD = len(RELATIONS)


@dataclass(frozen=True)
class TextSettings:
    """Everything the encoder's weights depend on."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    steps: int = 250
    batch: int = 128
    learning_rate: float = 3e-3
    scale: float = 2.0  # features have this standard deviation: stronger features train sooner
    seed: int = 0
    groups: int = 2  # most groups of objects that a caption names

    @property
    def tokens(self) -> int:
        """Tokens of an encoded caption."""
        return TOKENS[self.groups]

    @property
    def key(self) -> str:
        """Content hash: settings, vocabulary and code version."""
        settings = asdict(self)
        if self.groups == 2:
            del settings["groups"]  # an encoder from before it could be said
        text = json.dumps([_VERSION, settings, _WORDS, self.tokens], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def tokenize(texts: list[str], tokens: int) -> Tensor:
    """(N, tokens) int64 word indices, padded at the end; the empty caption is all padding."""
    rows = torch.full((len(texts), tokens), _INDEX[_PAD])
    for row, text in zip(rows, texts, strict=True):
        words = re.findall(r"\S+", text)
        unknown = [word for word in words if word not in _INDEX]
        if unknown or len(words) > tokens:
            raise ValueError(f"not a caption of the embedded benchmark: {text!r}")
        row[: len(words)] = torch.tensor([_INDEX[word] for word in words], dtype=torch.int64)
    return rows


class _Block(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(n, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(seen.transpose(1, 2).reshape(n, tokens, width))
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class ShapesTextEncoder(nn.Module):
    """Frozen after `train_encoder`; use `load_or_train` to get one."""

    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        self.settings = settings
        self.words = nn.Embedding(len(_WORDS), settings.width)
        self.places = nn.Parameter(torch.randn(settings.tokens, settings.width) * 0.5)
        self.blocks = nn.ModuleList(
            _Block(settings.width, settings.heads) for _ in range(settings.layers)
        )
        # No learned scale or shift: the variance of the features does not depend on training.
        self.norm = nn.LayerNorm(settings.width, elementwise_affine=False)
        heads = sum(_PHRASE_HEADS[settings.groups]) + _RELATION_HEAD
        self.heads = nn.Linear(settings.width, heads)

    @property
    def tokens(self) -> int:
        """Tokens of an encoded caption."""
        return self.settings.tokens

    @property
    def width(self) -> int:
        """Features of a token."""
        return self.settings.width

    @property
    def fingerprint(self) -> str:
        """What the features depend on: all that the weights depend on."""
        return self.settings.key

    def lengths(self, texts: list[str]) -> list[int]:
        """For each text, the first position from which all its features are zero: none is."""
        return [self.tokens] * len(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, tokens, width) features, unit variance, of (N, tokens) word indices."""
        x = self.words(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    @torch.no_grad()  # not inference mode: a backbone keeps the features for its backward pass
    def encode(self, texts: list[str], batch: int = 1024) -> Tensor:
        """(N, tokens, width) float32 features; each distinct caption is computed once."""
        distinct = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(distinct)}
        tokens = tokenize(distinct, self.tokens)
        parts = [self(tokens[i : i + batch]) for i in range(0, len(tokens), batch)]
        features = torch.cat(parts) if parts else torch.empty(0, self.tokens, self.width)
        features = features * self.settings.scale
        return features[torch.tensor([place[text] for text in texts], dtype=torch.int64)]


def _targets(scenes: Scenes, tokens: Tensor, groups: int) -> Tensor:
    """(N, tokens, heads) class indices, `_NONE` where a word is not asked."""
    place = torch.arange(tokens.shape[1])
    there = torch.from_numpy(scenes.count > 0)
    relations = [torch.from_numpy(r)[:, None] for r in (scenes.relation, scenes.next_relation)]
    # "to the left of" is four words, "above" one
    words = [torch.where(relation < 2, 4, 1) for relation in relations]
    facts = [torch.from_numpy(f) for f in (scenes.shape, scenes.color, scenes.count - 1)]
    out = torch.full((*tokens.shape, len(_PHRASE_HEADS[groups]) + 1), _NONE)
    begin = torch.zeros(len(scenes), 1, dtype=torch.int64)
    for group in range(groups):
        # a noun phrase is three words
        inside = there[:, group, None] & (place >= begin) & (place < begin + 3)
        sides = _sides(there, relations, group, groups)
        for head, fact in enumerate([*(f[:, group : group + 1] for f in facts), *sides]):
            out[..., head] = torch.where(inside, fact, out[..., head])
        if group + 1 < groups:
            end = begin + 3 + words[group]
            between = there[:, group + 1, None] & (place >= begin + 3) & (place < end)
            out[..., -1] = torch.where(between, relations[group], out[..., -1])
            begin = end
    return out


def _sides(there: Tensor, relations: list[Tensor], group: int, groups: int) -> list[Tensor]:
    """(N, 1) each: where a group is from the next one and from the last one, or that none is."""
    none = torch.full_like(relations[0], len(RELATIONS))
    following, last = none, none
    if group + 1 < groups:
        following = torch.where(there[:, group + 1, None], relations[group], none)
    if group > 0:
        last = relations[group - 1] ^ 1
    if groups == 2:
        return [last if group else following]
    return [following, last]


class ShapesText(TextEncoderSettings):
    """The embedded text encoder: trained once on captions, frozen, cached."""

    EMBEDDED: ClassVar[bool] = True
    EXAMPLE: ClassVar[Mapping[str, Any]] = {"width": 16, "steps": 2, "seed": 0}

    encoder: Literal["shapes"]
    width: int = Field(ge=8, description="features per token")
    steps: int = Field(ge=1, description="training steps of the encoder")
    seed: int = Field(ge=0, description="seed of the encoder; one encoder for all trials")
    groups: Literal[2, 3] = Field(
        default=2, description="groups of objects that a caption may name; 3 for three_objects"
    )

    def geometry(self) -> tuple[int, int]:
        """Return (tokens, features a token)."""
        return self._trained.tokens, self.width

    def check_data(self, data: ShapesData | PairsData) -> None:
        """An encoder of two groups has not learned captions of three."""
        if isinstance(data, ShapesData) and data.three_objects and self.groups < 3:
            raise ValueError(
                f"text.groups: got {self.groups} for data.three_objects {data.three_objects:g}; "
                "expected 3"
            )

    def fingerprint(self) -> str:
        """Return the key of the settings, which decide the weights."""
        return self._trained.key

    def load(self, cache_dir: Path, device: str = "cpu") -> ShapesTextEncoder:  # noqa: ARG002
        """Load it from the cache, trained first where it is missing there.

        It always runs on the CPU, which gives the same features everywhere.
        """
        return load_or_train(cache_dir, self._trained)

    def check(self, cache_dir: Path) -> None:
        """Train it once, before trials that all need it."""
        self.load(cache_dir)

    @property
    def _trained(self) -> TextSettings:
        return TextSettings(width=self.width, steps=self.steps, seed=self.seed, groups=self.groups)


def train_encoder(settings: TextSettings) -> ShapesTextEncoder:
    """A trained, frozen encoder: a function of ``settings`` alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine's core count
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = ShapesTextEncoder(settings)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, fused=True)
        count = settings.steps * settings.batch
        scenes = sample_scenes(settings.seed, "text", count, mixture=_MIXTURES[settings.groups])
        tokens = tokenize(captions(scenes), settings.tokens)
        targets = _targets(scenes, tokens, settings.groups)
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 - step / settings.steps)
            rows = slice(step * settings.batch, (step + 1) * settings.batch)
            loss = _loss(_told(model, tokens[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval().requires_grad_(False)


def _told(model: ShapesTextEncoder, tokens: Tensor) -> tuple[Tensor, ...]:
    """The logits (N, tokens, classes) of each head."""
    classes = [*_PHRASE_HEADS[model.settings.groups], _RELATION_HEAD]
    return torch.split(model.heads(model(tokens)), classes, dim=-1)


def _loss(logits: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Sum over the heads of their mean cross-entropies."""
    terms = [
        functional.cross_entropy(part.flatten(0, 1), targets[..., i].flatten(), ignore_index=_NONE)
        for i, part in enumerate(logits)
    ]
    return torch.stack(terms).sum()


def load_or_train(cache: Path, settings: TextSettings | None = None) -> ShapesTextEncoder:
    """The encoder from ``cache``/shapes-text-<key>.safetensors, trained and written if missing."""
    settings = settings or TextSettings()
    path = cache / f"shapes-text-{settings.key}.safetensors"
    if path.exists():
        with torch.random.fork_rng(devices=[]):
            model = ShapesTextEncoder(settings)
        model.load_state_dict(load_file(path))
        return model.eval().requires_grad_(False)
    model = train_encoder(settings)
    cache.mkdir(parents=True, exist_ok=True)
    # Written beside and moved: a reader never sees half a file, and of two writers the last wins
    # with the same bytes.
    handle, temporary = tempfile.mkstemp(dir=cache, suffix=".tmp")
    os.close(handle)
    try:
        save_file(model.state_dict(), temporary)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return model
