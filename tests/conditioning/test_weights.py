"""Where frozen parts come from: folders, and a hub as its cache on this machine holds it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from nas_t2i.conditioning.codecs.autoencoder_kl import AutoencoderKL
from nas_t2i.conditioning.text_encoders.transformers import TransformersText
from nas_t2i.conditioning.weights import digest_of, local_folder
from nas_t2i.errors import ConfigError
from tests.conditioning.checkpoints import tiny_clip, tiny_vae

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with one pipeline, somebody/pipeline, and no network."""
    cache = tmp_path / "hub"
    repository = cache / "models--somebody--pipeline"
    snapshot = repository / "snapshots" / COMMIT
    tiny_vae(snapshot / "vae", 0.13025)
    tiny_clip(snapshot / "text_encoder")
    (snapshot / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (snapshot / "text_encoder" / name).rename(snapshot / "tokenizer" / name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def vae(model: str, **keys: str) -> AutoencoderKL:
    return AutoencoderKL(
        codec="autoencoder_kl", model=model, precision="fp32", posterior="mean", **keys
    )


def clip(model: str) -> TransformersText:
    return TransformersText(
        encoder="transformers",
        model=model,
        tokens=10,
        layer="last",
        padding="keep",
        precision="fp32",
    )


def test_a_hub_id_is_its_snapshot(hub: Path, tmp_path: Path) -> None:
    ours = vae("somebody/pipeline", subfolder="vae")
    assert ours.geometry() == (4, 4)
    assert ours.load().fingerprint == vae(str(hub / "vae")).load().fingerprint
    assert vae("somebody/pipeline", subfolder="vae", revision=COMMIT).load().channels == 4
    text = clip("somebody/pipeline")
    assert text.geometry() == (10, 32)
    local = clip(str(hub / "text_encoder")).load(tmp_path)
    assert text.load(tmp_path).fingerprint == local.fingerprint


def test_what_the_hub_does_not_have_is_one_line(hub: Path) -> None:
    shutil.rmtree(hub)
    for one in (vae("somebody/pipeline"), vae("nobody/here"), vae("nowhere", revision="v1")):
        with pytest.raises(ConfigError, match=r"no folder '.*' here, and no such model") as caught:
            one.geometry()
        assert "\n" not in str(caught.value)


def test_a_path_with_a_slip_in_it_is_no_hub_id(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_vae(Path("models/vae"))
    assert local_folder("models/vae", None, "here") == Path("models/vae")
    assert local_folder("somebody/pipeline", None, "here") is None
    for slip in ("models/vea", "./vea", "~/vea", "/vea", "a/b/c", "vae?"):
        with pytest.raises(ConfigError, match="here: no folder"):
            local_folder(slip, None, "here")


def test_a_digest_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = digest_of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(0, 0))
    assert digest_of(file) != first
    file.write_bytes(b"one")
    os.utime(file, ns=(1, 1))
    assert digest_of(file) == first
