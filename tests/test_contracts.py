"""The built-in plug-ins keep to the contracts that those from outside are checked by."""

import re

import pytest

from nas_t2i import plugins
from nas_t2i.contracts import check, completed
from nas_t2i.errors import ConfigError, UserError
from tests.conditioning.checkpoints import tiny_clip, tiny_openclip, tiny_vae

# What can't have an example of its own: it needs files.
NEED_FILES = {
    "data_sources": {"folder", "shards"},
    "text_encoders": {"openclip", "transformers"},
    "codecs": {"autoencoder_kl"},
    "vqa": {"blip", "blip2", "git", "recorded", "vilt"},
    "metrics": {"clip", "fid", "hps", "image_reward", "tifa"},
    "trackers": {"mlflow", "tensorboard", "wandb"},  # tests/tracking/test_trackers.py checks them
}
BUILT_IN = [
    (kind, name)
    for kind in plugins.KINDS
    for name in plugins.builtin_names(kind)
    if name not in NEED_FILES.get(kind, ())
]
EXAMPLE = {"keep": [0.5], "margin": 1.0, "min_peers": 2}


def problems(kind: str, name: str, settings: dict) -> list[str]:
    plugin = plugins.find(kind, name)
    found = check(plugin, completed(plugin, settings))
    assert len(found) >= 5
    return [f"{what}: {problem}" for what, problem in found if problem]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_what_needs_no_files_keeps_its_contract_by_its_own_example(kind, name):
    assert problems(kind, name, {}) == []


@pytest.mark.parametrize("kind", NEED_FILES)
def test_what_needs_files_names_all_of_its_missing_settings(kind):
    for name in NEED_FILES[kind]:
        plugin = plugins.find(kind, name)
        with pytest.raises(ConfigError) as error:
            check(plugin, completed(plugin, {}))
        assert f"{plugin.kind.word} {name!r}: the key" in str(error.value)
        missing = re.findall(r"--set (\w+)=[A-Z]", str(error.value))
        assert missing and all(f"'{key}'" in str(error.value) for key in missing)


def test_what_needs_a_checkpoint_keeps_its_contract(tmp_path):
    config, weights = tiny_openclip(tmp_path / "openclip")
    openclip = {"model": str(config), "checkpoint": str(weights)}
    assert problems("metrics", "clip", openclip) == []
    assert problems("text_encoders", "openclip", openclip) == []
    clip = {"model": str(tiny_clip(tmp_path / "clip"))}
    assert problems("text_encoders", "transformers", clip) == []
    vae = {"model": str(tiny_vae(tmp_path / "vae", 0.2))}
    assert problems("codecs", "autoencoder_kl", vae) == []


def test_a_contract_that_is_broken_is_told(monkeypatch):
    shares = plugins.find("stopping", "best_share")
    monkeypatch.setattr(shares.cls, "goes_on", lambda *_: False)
    found = problems("stopping", "best_share", {})
    assert found[:2] == [
        "the best goes on: it is stopped",
        "whoever is alone goes on: it is stopped",
    ]
    monkeypatch.setattr(shares.cls, "goes_on", lambda *_: 1 / 0)
    last = check(shares, EXAMPLE)[-1]
    assert last.problem == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("kind", "name", "given", "message"),
    [
        ("families", "unet", {"chanels": 64}, "family 'unet': chanels: .*did you mean 'channels'"),
        ("families", "unet", {"channels": -1}, "family 'unet': channels: got -1; expected"),
        ("metrics", "hps", {"version": "v2.1"}, "'checkpoint' is missing; expected --set check"),
        ("vqa", "shapes", {"argument": "x"}, "got the key 'argument'; expected no setting"),
        ("vqa", "blip", {"model": "x"}, "got the key 'model'; expected argument=MODEL"),
        ("vqa", "blip", {"argument": "./none"}, "no folder|no such file"),
    ],
)
def test_settings_that_do_not_fit_are_told_in_a_line(kind, name, given, message):
    plugin = plugins.find(kind, name)
    with pytest.raises(UserError, match=message) as error:
        check(plugin, completed(plugin, given))
    assert "\n" not in str(error.value)
