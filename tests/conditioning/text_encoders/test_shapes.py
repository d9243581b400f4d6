"""The small frozen text encoder."""

from pathlib import Path

import pytest
import torch

from nas_t2i.conditioning.text_encoders import shapes
from nas_t2i.conditioning.text_encoders.shapes import (
    TOKENS,
    TextSettings,
    load_or_train,
    tokenize,
    train_encoder,
)
from nas_t2i.data.embedded.shapes import captions, sample_scenes

SMALL = TextSettings(width=32, layers=2, steps=60, batch=64, learning_rate=5e-3)
TEXTS = ["a red circle to the left of two blue squares", "", "three green triangles"]


def test_same_settings_same_encoder_and_the_cache_holds_it(tmp_path: Path) -> None:
    first = load_or_train(tmp_path / "new", SMALL)
    files = list((tmp_path / "new").iterdir())
    assert [f.name for f in files] == [f"shapes-text-{SMALL.key}.safetensors"]
    again = load_or_train(tmp_path / "new", SMALL)
    fresh = train_encoder(SMALL)
    features = first.encode(TEXTS)
    assert features.shape == (3, TOKENS[2], 32)
    assert torch.equal(features, again.encode(TEXTS))
    assert torch.equal(features, fresh.encode(TEXTS))
    assert not any(p.requires_grad for p in first.parameters())
    assert torch.equal(features[1], first.encode([""])[0])


@pytest.mark.parametrize("groups", [2, 3])
def test_training_teaches_what_captions_say(groups: int) -> None:
    model = train_encoder(TextSettings(steps=120, groups=groups))
    assert model.encode(["a white cross"]).shape == (1, model.tokens, model.width)
    # On fresh captions its heads say what the words of a phrase belong to.
    scenes = sample_scenes(1, "text-check", 500, mixture=shapes._MIXTURES[groups])
    tokens = tokenize(captions(scenes), model.tokens)
    targets = shapes._targets(scenes, tokens, groups)
    with torch.inference_mode():
        said = torch.stack([part.argmax(dim=-1) for part in shapes._told(model, tokens)], dim=-1)
    asked = targets != shapes._NONE
    assert (said == targets)[asked].float().mean() > 0.95


def test_key_follows_the_settings() -> None:
    assert TextSettings(seed=1).key != TextSettings(seed=0).key == TextSettings().key
    assert TextSettings(groups=3).key != TextSettings(groups=2).key == TextSettings().key


def test_training_leaves_the_global_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    train_encoder(TextSettings(width=16, steps=2, batch=8))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_repeated_captions_share_features() -> None:
    model = train_encoder(TextSettings(width=16, steps=2, batch=8))
    features = model.encode([TEXTS[0], TEXTS[2], TEXTS[0]])
    assert torch.equal(features[0], features[2])
    assert not torch.equal(features[0], features[1])


@pytest.mark.parametrize("text", ["a pink circle", " ".join(["a"] * (TOKENS[2] + 1))])
def test_foreign_captions_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="not a caption"):
        tokenize([text], TOKENS[2])
