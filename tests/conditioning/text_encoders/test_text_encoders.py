"""What every text encoder keeps to, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nas_t2i.conditioning.text_encoders.openclip import OpenClipText
from nas_t2i.conditioning.text_encoders.shapes import ShapesText
from nas_t2i.conditioning.text_encoders.transformers import TransformersText
from tests.conditioning.checkpoints import TEXT_WIDTH, tiny_clip, tiny_openclip, tiny_t5

Settings = OpenClipText | ShapesText | TransformersText

# Captions that the embedded encoder reads as well; of different lengths.
TEXTS = ["a red circle", "", "a red circle to the left of two blue squares", "a blue square"]


def openclip(folder: Path, **changes: object) -> OpenClipText:
    config, weights = tiny_openclip(folder)
    keys = {"layer": "last", "padding": "keep", "precision": "fp32", **changes}
    return OpenClipText(encoder="openclip", model=str(config), checkpoint=str(weights), **keys)


def transformers(folder: Path, **changes: object) -> TransformersText:
    # Their tokenizers know few words but letters: one token each.
    keys = {"tokens": 60, "layer": "last", "padding": "keep", "precision": "fp32", **changes}
    return TransformersText(encoder="transformers", model=str(folder), **keys)


def clip(folder: Path, **changes: object) -> TransformersText:
    return transformers(tiny_clip(folder), **changes)


def t5(folder: Path, **changes: object) -> TransformersText:
    return transformers(tiny_t5(folder), **changes)


def shapes(folder: Path) -> ShapesText:
    return ShapesText(encoder="shapes", width=TEXT_WIDTH, steps=2, seed=0)


PRETRAINED = {"openclip": openclip, "clip": clip, "t5": t5}
ENCODERS: dict[str, Callable[[Path], Settings]] = {**PRETRAINED, "shapes": shapes}


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_contract(kind: str, tmp_path: Path) -> None:
    settings = ENCODERS[kind](tmp_path / "model")
    state = torch.get_rng_state()
    encoder = settings.load(tmp_path)
    features = encoder.encode(TEXTS)

    assert (encoder.tokens, encoder.width) == settings.geometry()
    assert features.shape == (len(TEXTS), encoder.tokens, encoder.width)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert not features.is_inference()  # a backbone keeps it for its backward pass
    assert features.isfinite().all()
    assert encoder.encode([]).shape == (0, encoder.tokens, encoder.width)
    assert encoder.lengths([]) == []
    assert encoder.lengths(TEXTS) == [encoder.tokens] * len(TEXTS)
    assert len({tuple(row.flatten().tolist()) for row in features}) == len(TEXTS)
    assert encoder.fingerprint == settings.fingerprint()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_caption_has_the_same_features_whatever_else_is_in_the_batch(
    kind: str, tmp_path: Path
) -> None:
    encoder = ENCODERS[kind](tmp_path / "model").load(tmp_path)
    together = encoder.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        torch.testing.assert_close(encoder.encode([text])[0], together[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_batches_larger_than_one_forward_pass_keep_their_order(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = PRETRAINED[kind](tmp_path / "model", padding="zero").load(tmp_path)
    together = encoder.encode(TEXTS)
    monkeypatch.setattr(
        "nas_t2i.conditioning.text_encoders.common.tower._TOKENS_AT_ONCE", 2 * encoder.tokens
    )
    in_twos = encoder.encode(TEXTS[:3])
    torch.testing.assert_close(in_twos, together[:3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_zero_padding_is_zero_after_the_text_and_nothing_else(kind: str, tmp_path: Path) -> None:
    make = PRETRAINED[kind]
    kept = make(tmp_path / "model").load(tmp_path).encode(TEXTS)
    encoder = make(tmp_path / "model", padding="zero").load(tmp_path)
    features = encoder.encode(TEXTS)
    lengths = encoder.lengths(TEXTS)
    assert lengths[1] == min(lengths)
    assert lengths[2] == max(lengths) < encoder.tokens
    for row, length in enumerate(lengths):
        assert torch.equal(features[row, :length], kept[row, :length])
        assert features[row, :length].any(dim=1).all()
        assert not features[row, length:].any()
        assert kept[row, length:].any()


@pytest.mark.parametrize("kind", PRETRAINED)
def test_a_text_too_long_is_cut(kind: str, tmp_path: Path) -> None:
    encoder = PRETRAINED[kind](tmp_path / "model", padding="zero").load(tmp_path)
    long = ["a red circle " * 40, "a red circle " * 50]
    first, second = encoder.encode(long)
    assert encoder.lengths(long) == [encoder.tokens] * 2
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_bf16_is_close_and_comes_out_as_float32(kind: str, tmp_path: Path) -> None:
    make = PRETRAINED[kind]
    exact = make(tmp_path / "model").load(tmp_path).encode(TEXTS)
    rounded = make(tmp_path / "model", precision="bf16").load(tmp_path).encode(TEXTS)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert float((rounded - exact).std() / exact.std()) < 0.02


@pytest.mark.parametrize("kind", PRETRAINED)
def test_the_fingerprint_follows_what_the_features_depend_on(kind: str, tmp_path: Path) -> None:
    make = PRETRAINED[kind]
    here, there = (make(tmp_path / name).fingerprint() for name in ("here", "there"))
    assert here == there  # the same bytes in another place
    changes = [{"layer": "penultimate"}, {"padding": "zero"}, {"precision": "bf16"}]
    others = [make(tmp_path / "here", **change).fingerprint() for change in changes]
    assert len({here, *others}) == 4


@pytest.mark.parametrize("writer", [tiny_clip, tiny_t5])
def test_other_weights_have_another_fingerprint(
    writer: Callable[..., Path], tmp_path: Path
) -> None:
    folders = [writer(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    first, second = (transformers(folder).fingerprint() for folder in folders)
    assert first != second


def test_the_embedded_encoder_has_the_key_of_its_settings(tmp_path: Path) -> None:
    from nas_t2i.conditioning.text_encoders.shapes import TextSettings

    settings = ShapesText(encoder="shapes", width=16, steps=3, seed=5)
    encoder = settings.load(tmp_path)
    assert encoder.fingerprint == TextSettings(width=16, steps=3, seed=5).key
    assert (tmp_path / f"shapes-text-{encoder.fingerprint}.safetensors").is_file()
