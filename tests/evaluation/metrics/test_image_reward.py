"""ImageReward on a small checkpoint with the official names, against a plain forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.metrics.common.per_image import ImageModel
from nas_t2i.evaluation.metrics.image_reward import (
    BlipSizes,
    _RewardModel,
    make_image_reward,
    renamed,
)
from tests.evaluation.metrics.images import make_images

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "circle", "##s", "of", "cat"]
SIZES = BlipSizes(
    image=32,
    patch=16,
    vision_width=16,
    vision_layers=2,
    vision_heads=2,
    text_width=24,
    text_layers=2,
    text_heads=3,
    text_inner=40,
    vocabulary=len(WORDS) + 2,
    positions=36,
    head=(9, 7, 5, 3),
)
PROMPTS = ["a red circle", "", "cat " * 50]  # short, empty, cut


def official_shapes(sizes: BlipSizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the official checkpoint, from the reference's modules."""

    def pair(name: str, outs: int, ins: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (outs, ins)
        yield f"{name}.bias", (outs,)

    def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)

    wide, width, inner = sizes.vision_width, sizes.text_width, sizes.text_inner
    eye = "blip.visual_encoder"
    yield f"{eye}.cls_token", (1, 1, wide)
    yield f"{eye}.pos_embed", (1, 1 + (sizes.image // sizes.patch) ** 2, wide)
    yield f"{eye}.patch_embed.proj.weight", (wide, 3, sizes.patch, sizes.patch)
    yield f"{eye}.patch_embed.proj.bias", (wide,)
    for row in range(sizes.vision_layers):
        block = f"{eye}.blocks.{row}"
        yield from norm(f"{block}.norm1", wide)
        yield from pair(f"{block}.attn.qkv", 3 * wide, wide)
        yield from pair(f"{block}.attn.proj", wide, wide)
        yield from norm(f"{block}.norm2", wide)
        yield from pair(f"{block}.mlp.fc1", 4 * wide, wide)
        yield from pair(f"{block}.mlp.fc2", wide, 4 * wide)
    yield from norm(f"{eye}.norm", wide)
    text = "blip.text_encoder"
    yield f"{text}.embeddings.position_ids", (1, sizes.positions)
    yield f"{text}.embeddings.word_embeddings.weight", (sizes.vocabulary, width)
    yield f"{text}.embeddings.position_embeddings.weight", (sizes.positions, width)
    yield from norm(f"{text}.embeddings.LayerNorm", width)
    for row in range(sizes.text_layers):
        layer = f"{text}.encoder.layer.{row}"
        for kind, source in (("attention", width), ("crossattention", wide)):
            yield from pair(f"{layer}.{kind}.self.query", width, width)
            yield from pair(f"{layer}.{kind}.self.key", width, source)
            yield from pair(f"{layer}.{kind}.self.value", width, source)
            yield from pair(f"{layer}.{kind}.output.dense", width, width)
            yield from norm(f"{layer}.{kind}.output.LayerNorm", width)
        yield from pair(f"{layer}.intermediate.dense", inner, width)
        yield from pair(f"{layer}.output.dense", width, inner)
        yield from norm(f"{layer}.output.LayerNorm", width)
    yield from pair("blip.vision_proj", 256, wide)
    yield from pair("blip.text_proj", 256, width)
    widths = (width, *sizes.head, 1)
    for row, name in enumerate((0, 2, 4, 6, 7)):  # the others are dropouts
        yield from pair(f"mlp.layers.{name}", widths[row + 1], widths[row])


def official_state(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in official_shapes(SIZES):
        state[name] = torch.randn(shape, generator=generator) * 0.3
        if "norm" in name.lower() and name.endswith("weight"):
            state[name] += 1.0
        if name.startswith(("blip.visual_encoder.pos", "blip.visual_encoder.cls")):
            state[name] *= 0.01  # so small that the norms' epsilon counts
        if name.startswith("blip.visual_encoder.patch_embed"):
            state[name] *= 0.001
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(SIZES.positions)[None]
    return state


def save(folder: Path, state: dict[str, Tensor] | None = None) -> tuple[Path, Path]:
    """A checkpoint file and a tokenizer's folder."""
    folder.mkdir(exist_ok=True)
    file = folder / "ImageReward.pt"
    torch.save(state or official_state(), file)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return file, folder


def make(folder: Path, state: dict[str, Tensor] | None = None) -> ImageModel:
    file, words = save(folder, state)
    return make_image_reward(str(file), tokenizer=str(words), sizes=SIZES)


def plain_reward(state: dict[str, Tensor], pixels: Tensor, ids: list[int]) -> float:
    """One image (3, H, W) and one prompt's tokens without padding, step by step."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        parts = []
        for rows in zip(*(t.chunk(heads, dim=-1) for t in (q, k, v)), strict=True):
            a, b, c = rows
            parts.append((a @ b.T / math.sqrt(a.shape[-1])).softmax(-1) @ c)
        return torch.cat(parts, dim=-1)

    def gelu(x: Tensor) -> Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    eye = "blip.visual_encoder"
    projection = state[f"{eye}.patch_embed.proj.weight"].flatten(1)
    cells = functional.unfold(pixels[None], SIZES.patch, stride=SIZES.patch)[0].T
    patches = cells @ projection.T + state[f"{eye}.patch_embed.proj.bias"]
    x = torch.cat([state[f"{eye}.cls_token"][0], patches]) + state[f"{eye}.pos_embed"][0]
    for row in range(SIZES.vision_layers):
        block = f"{eye}.blocks.{row}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, dim=-1)
        x = x + linear(f"{block}.attn.proj", attend(q, k, v, SIZES.vision_heads))
        hidden = gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6)))
        x = x + linear(f"{block}.mlp.fc2", hidden)
    image = norm(f"{eye}.norm", x, 1e-6)

    text = "blip.text_encoder"
    words = state[f"{text}.embeddings.word_embeddings.weight"][ids]
    places = state[f"{text}.embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(f"{text}.embeddings.LayerNorm", words + places, 1e-12)
    for row in range(SIZES.text_layers):
        layer = f"{text}.encoder.layer.{row}"
        for kind, source in (("attention", None), ("crossattention", image)):
            of = x if source is None else source
            name = f"{layer}.{kind}"
            q = linear(f"{name}.self.query", x)
            k, v = linear(f"{name}.self.key", of), linear(f"{name}.self.value", of)
            out = linear(f"{name}.output.dense", attend(q, k, v, SIZES.text_heads))
            x = norm(f"{name}.output.LayerNorm", out + x, 1e-12)
        hidden = gelu(linear(f"{layer}.intermediate.dense", x))
        out = linear(f"{layer}.output.dense", hidden)
        x = norm(f"{layer}.output.LayerNorm", out + x, 1e-12)

    reward = x[0]
    for number in (0, 2, 4, 6, 7):
        reward = linear(f"mlp.layers.{number}", reward)
    return (reward.item() - 0.16717362830052426) / 1.0333394966054072


def test_the_reward_is_that_of_a_plain_forward_pass(tmp_path: Path) -> None:
    metric = make(tmp_path)
    double = {key: value.double() for key, value in official_state().items()}
    transform = open_clip.image_transform(32, is_train=False)
    tokens = [[2, 5, 6, 7, 3], [2, 3], [2, *[10] * 33, 3]]
    expected = [
        plain_reward(double, transform(image).double(), ids)
        for image, ids in zip(make_images(3), tokens, strict=True)
    ]
    rewards = metric.score(make_images(3), PROMPTS)
    assert rewards == pytest.approx(expected, abs=2e-5)
    assert max(rewards) - min(rewards) > 0.01


def test_image_and_prompt_both_count(tmp_path: Path) -> None:
    metric = make(tmp_path)
    one, other = make_images(2)
    rewards = metric.score([one, other, one], ["a cat", "a cat", "a red cat"])
    assert min(abs(a - b) for a, b in [(rewards[0], r) for r in rewards[1:]]) > 1e-3


def test_a_reward_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    metric = make(tmp_path)
    images, prompts = make_images(35), (PROMPTS * 12)[:35]  # two passes, lengths mixed
    single = [metric.score([i], [p])[0] for i, p in zip(images, prompts, strict=True)]
    assert metric.score(images, prompts) == pytest.approx(single, abs=1e-5)


@pytest.mark.parametrize("bias", [0.16717362830052426, 0.16717362830052426 + 1.0333394966054072])
def test_a_head_set_by_hand(bias: float, tmp_path: Path) -> None:
    state = official_state()
    state["mlp.layers.7.weight"].zero_()
    state["mlp.layers.7.bias"].fill_(bias)
    # The mean of the raw rewards is 0, a deviation above it 1.
    expected = 0.0 if bias < 1 else 1.0
    assert make(tmp_path, state).score(make_images(3), PROMPTS) == pytest.approx(
        [expected] * 3, abs=1e-6
    )


def test_the_names_cover_each_other() -> None:
    with torch.device("meta"):
        ours = {name: tuple(v.shape) for name, v in _RewardModel(SIZES).state_dict().items()}
    mapped = {renamed(name): shape for name, shape in official_shapes(SIZES)}
    unused = {name for name, _ in official_shapes(SIZES) if renamed(name) is None}
    del mapped[None]
    assert mapped == ours
    assert unused == {
        "blip.text_encoder.embeddings.position_ids",
        *(f"blip.{n}_proj.{kind}" for n in ("vision", "text") for kind in ("weight", "bias")),
    }


def test_the_real_sizes_are_those_of_the_reference() -> None:
    with torch.device("meta"):
        model = _RewardModel(BlipSizes())
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert ours == {renamed(n): s for n, s in official_shapes(BlipSizes()) if renamed(n)}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = official_state()
    del state["blip.visual_encoder.blocks.1.attn.proj.bias"]
    with pytest.raises(
        ConfigError, match=r"not weights of ImageReward: no vision.*projection.bias"
    ):
        make(tmp_path, state)
    more = {**official_state(), "blip.visual_encoder.blocks.9.x": torch.zeros(1)}
    with pytest.raises(ConfigError, match=r"vision.encoder.layers.9.x .1 tensors too many"):
        make(tmp_path, more)
    file, words = save(tmp_path)
    (words / "vocab.txt").write_text("\n".join(WORDS[:-1]) + "\n")
    with pytest.raises(ConfigError, match=r"has 12 tokens .*; expected 13, as the checkpoint has"):
        make_image_reward(str(file), tokenizer=str(words), sizes=SIZES)
    (words / "vocab.txt").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer; expected tokenizer.json or vocab.txt"):
        make_image_reward(str(file), tokenizer=str(words), sizes=SIZES)
    with pytest.raises(ConfigError, match=r"image_reward.checkpoint: no file"):
        make_image_reward(str(tmp_path / "none.pt"))


class Rogue:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_a_checkpoint_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, words = save(tmp_path)
    torch.save({"state_dict": Rogue()}, file)
    with pytest.raises(ConfigError, match="can't be read as plain weights"):
        make_image_reward(str(file), tokenizer=str(words), sizes=SIZES)
    assert capsys.readouterr().out == ""


def test_the_identity_tells_weights_and_words(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    assert one.identity == make(tmp_path / "two").identity
    assert one.identity != make(tmp_path / "three", official_state(1)).identity
    assert one.name == "image_reward"
    assert "\n" not in one.identity
