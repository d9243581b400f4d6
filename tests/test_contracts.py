"""The built-in plug-ins keep to the contracts that those from outside are checked by."""

import pytest

from nas_t2i import plugins
from nas_t2i.contracts import check
from nas_t2i.errors import ConfigError
from tests.conditioning.checkpoints import tiny_clip, tiny_openclip, tiny_vae

UNET = {"channels": 64, "channel_mult": [1, 2], "transformer_depth": [0, 1]}
PLAIN = {
    ("families", "unet"): UNET,
    ("families", "if_unet"): UNET,
    ("families", "pixart"): {"hidden": 64, "depth": 1, "heads": 4},
    ("data_sources", "shapes"): {"scenes": 30, "two_objects": 0.5, "two_groups": 0.2},
    ("text_encoders", "shapes"): {"width": 16, "steps": 2, "seed": 0},
    ("codecs", "pixel_unshuffle"): {"factor": 2, "scale": 1.0},
    ("vqa", "shapes"): {},
    ("vqa", "learned"): {},
    ("stopping", "best_share"): {"keep": [0.5], "margin": 1.0, "min_peers": 2},
}


def problems(kind: str, name: str, settings: dict) -> list[str]:
    found = check(plugins.find(kind, name), settings)
    assert len(found) >= 5
    return [f"{what}: {problem}" for what, problem in found if problem]


@pytest.mark.parametrize(("kind", "name"), PLAIN)
def test_what_needs_no_files_keeps_its_contract(kind, name):
    assert problems(kind, name, PLAIN[kind, name]) == []


def test_what_needs_a_checkpoint_keeps_its_contract(tmp_path):
    config, weights = tiny_openclip(tmp_path / "openclip")
    openclip = {"model": str(config), "checkpoint": str(weights)}
    text = {"layer": "last", "padding": "zero", "precision": "fp32"}
    assert problems("metrics", "clip", openclip) == []
    assert problems("text_encoders", "openclip", openclip | text) == []
    clip = {"model": str(tiny_clip(tmp_path / "clip")), "tokens": 10}
    assert problems("text_encoders", "transformers", clip | text) == []
    vae = {"model": str(tiny_vae(tmp_path / "vae", 0.2)), "precision": "fp32"}
    assert problems("codecs", "autoencoder_kl", vae | {"posterior": "sample"}) == []


def test_a_contract_that_is_broken_is_told(monkeypatch):
    shares = plugins.find("stopping", "best_share")
    monkeypatch.setattr(shares.cls, "goes_on", lambda *_: False)
    found = problems("stopping", "best_share", PLAIN["stopping", "best_share"])
    assert found[:2] == [
        "the best goes on: it is stopped",
        "whoever is alone goes on: it is stopped",
    ]
    monkeypatch.setattr(shares.cls, "goes_on", lambda *_: 1 / 0)
    last = check(shares, PLAIN["stopping", "best_share"])[-1]
    assert last.problem == "ZeroDivisionError: division by zero"


def test_settings_that_are_missing_are_named():
    with pytest.raises(ConfigError, match="the key 'factor' is missing; expected --set factor="):
        check(plugins.find("codecs", "pixel_unshuffle"), {})
