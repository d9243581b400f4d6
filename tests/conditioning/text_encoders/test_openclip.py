"""OpenCLIP text towers against the models that open_clip itself builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from nas_t2i.conditioning.text_encoders.openclip import (
    OpenClipEncoder,
    OpenClipText,
    openclip_fingerprint,
    openclip_geometry,
)
from nas_t2i.errors import ConfigError
from tests.conditioning.checkpoints import edit_json, openclip_config, tiny_openclip

TEXTS = ["a red circle", "", "Two BLUE squares, to the left of a very long row of things!"]


def settings(model: object, checkpoint: object, **changes: Any) -> OpenClipText:
    keys = {"layer": "last", "padding": "keep", "precision": "fp32", **changes}
    return OpenClipText(encoder="openclip", model=str(model), checkpoint=str(checkpoint), **keys)


def whole_model(config: Path, weights: Path) -> open_clip.CLIP:
    """The full CLIP model, image tower and all, as open_clip loads it."""
    model = open_clip.CLIP(**json.loads(config.read_text()))
    open_clip.load_checkpoint(model, str(weights))
    return model.eval()


@torch.no_grad()
def oracle(model: open_clip.CLIP, block: int) -> torch.Tensor:
    """What a hook sees behind a block, through the final norm."""
    seen: list[torch.Tensor] = []
    hook = model.transformer.resblocks[block].register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    model.encode_text(open_clip.SimpleTokenizer()(TEXTS))
    hook.remove()
    out: torch.Tensor = model.ln_final(seen[0])
    return out


@pytest.mark.parametrize(("layer", "block"), [("last", -1), ("penultimate", -2)])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_features_are_the_whole_models_hidden_states(
    layer: str, block: int, quick_gelu: bool, tmp_path: Path
) -> None:
    config, weights = tiny_openclip(tmp_path)
    edit_json(config, quick_gelu=quick_gelu)
    expected = oracle(whole_model(config, weights), block)
    encoder = OpenClipEncoder(settings(config, weights, layer=layer))
    torch.testing.assert_close(encoder.encode(TEXTS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["clip", "custom"])
@pytest.mark.parametrize("form", ["safetensors", "pt", "training"])
def test_every_form_of_a_checkpoint_is_the_same_tower(
    form: Any, layout: Any, tmp_path: Path
) -> None:
    plain = OpenClipEncoder(settings(*tiny_openclip(tmp_path / "plain")))
    one = tiny_openclip(tmp_path / "one", form=form, layout=layout)
    assert torch.equal(OpenClipEncoder(settings(*one)).encode(TEXTS), plain.encode(TEXTS))


def test_half_precision_weights_are_read_as_they_are(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    state = {name: value.half() for name, value in load_file(weights).items()}
    save_file(state, weights)
    save_file({k: v.float() for k, v in state.items()}, tmp_path / "full.safetensors")
    half = OpenClipEncoder(settings(config, weights)).encode(TEXTS)
    full = OpenClipEncoder(settings(config, tmp_path / "full.safetensors")).encode(TEXTS)
    assert torch.equal(half, full)


def test_the_image_tower_is_not_needed(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    expected = OpenClipEncoder(settings(config, weights)).encode(TEXTS)
    state = load_file(weights)
    text = {k: v for k, v in state.items() if not k.startswith(("visual.", "text_projection"))}
    assert len(text) < len(state)
    save_file(text, weights)
    assert torch.equal(OpenClipEncoder(settings(config, weights)).encode(TEXTS), expected)


def test_a_hubs_config_file_is_read_as_well(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    hub = tmp_path / "open_clip_config.json"
    hub.write_text(json.dumps({"model_cfg": json.loads(config.read_text()), "preprocess_cfg": {}}))
    first, second = (openclip_fingerprint(settings(c, weights)) for c in (config, hub))
    assert first == second


def test_an_end_of_text_inside_a_caption_does_not_end_it(tmp_path: Path) -> None:
    encoder = OpenClipEncoder(settings(*tiny_openclip(tmp_path), padding="zero"))
    # start, end (spelt out), red, end
    assert encoder.lengths(["<end_of_text>red", "red", "! ! !"]) == [4, 3, 5]


def test_shorter_contexts_and_coca_towers(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path, layout="custom", context_length=20, embed_cls=True)
    encoder = OpenClipEncoder(settings(config, weights))
    assert encoder.encode(TEXTS).shape == (3, 20, 32)
    model = open_clip.CustomTextCLIP(**json.loads(config.read_text()))
    open_clip.load_checkpoint(model, str(weights))
    model.eval().text.output_tokens = True
    with torch.no_grad():
        _, tokens = model.text(open_clip.SimpleTokenizer(context_length=20)(TEXTS))
        # open_clip leaves the tokens of such a tower without the final norm
        expected = model.text.ln_final(tokens)
    torch.testing.assert_close(encoder.encode(TEXTS), expected, rtol=1e-5, atol=1e-5)


def test_geometry_of_the_architectures_that_recipes_use() -> None:
    # Neither the weights nor the network are asked.
    for name, width in (("ViT-H-14", 1024), ("ViT-L-14-quickgelu", 768), ("ViT-bigG-14", 1280)):
        assert openclip_geometry(settings(name, "none.pt")) == (77, width)


@pytest.mark.parametrize(
    ("model", "checkpoint", "message"),
    [
        ("ViT-H14", "a.pt", "text.model: got 'ViT-H14', which .*; did you mean 'ViT-H-14'"),
        ("hf-hub:org/name", "a.pt", "no OpenCLIP architecture"),
        ("missing.json", "a.pt", "missing.json: no such file"),
        ("ViT-H-14", "laion2b_s32b_b79", "did you mean 'laion2b_s32b_b79k'"),
        ("ViT-H-14", "no-such.safetensors", "text.checkpoint: no file 'no-such.safetensors'"),
        ("ViT-H-14", "$NAS_T2I_UNSET/a.pt", r"\$NAS_T2I_UNSET is not set"),
        ("ViT-L-14", "openai", "trained with QuickGELU; expected 'ViT-L-14-quickgelu'"),
        ("ViT-H-14-quickgelu", "laion2b_s32b_b79k", "no pretrained tag"),
        ("ViT-B-16-SigLIP", "webli", "text tower and tokenizer"),
        ("xlm-roberta-base-ViT-B-32", "a.pt", "text tower and tokenizer"),
    ],
)
def test_what_there_is_not_is_named(model: str, checkpoint: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        OpenClipEncoder(settings(model, checkpoint))
    assert "\n" not in str(caught.value)


def test_an_architecture_by_file_has_no_tags(tmp_path: Path) -> None:
    config, _ = tiny_openclip(tmp_path)
    with pytest.raises(ConfigError, match="has no pretrained tags; expected a file"):
        OpenClipEncoder(settings(config, "openai"))


def test_a_download_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError("Failed to download file\nLast error: no network")

    monkeypatch.setattr(open_clip, "download_pretrained", refuse)
    with pytest.raises(ConfigError, match=r"laion2b_s32b_b79k.*can't be downloaded") as caught:
        OpenClipEncoder(settings("ViT-H-14", "laion2b_s32b_b79k"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vision_cfg": {}}, "KeyError"),
        ({"model_cfg": 3}, "TypeError"),
        ({**openclip_config(), "text_cfg": {"widht": 32}}, "widht"),
        (openclip_config(heads=3), "no model can be built"),
    ],
)
def test_configs_that_are_none(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    _, weights = tiny_openclip(tmp_path)
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message) as caught:
        OpenClipEncoder(settings(file, weights))
    assert str(caught.value).startswith(f"{file}: ")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path / "three")
    deeper, deep = tiny_openclip(tmp_path / "four", layers=4)
    _, narrow = tiny_openclip(tmp_path / "narrow", width=16)
    with pytest.raises(ConfigError, match=r"tensors too many"):
        OpenClipEncoder(settings(config, deep))
    with pytest.raises(ConfigError, match=r"no transformer.resblocks.3.*12 tensors are missing"):
        OpenClipEncoder(settings(deeper, weights))
    with pytest.raises(ConfigError, match=r"49408 x 16, not 49408 x 32|77 x 16, not 77 x 32"):
        OpenClipEncoder(settings(config, narrow))
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other)
    with pytest.raises(ConfigError, match=r"no token_embedding\.weight"):
        OpenClipEncoder(settings(config, other))


@pytest.mark.parametrize("form", ["safetensors", "pt"])
@pytest.mark.parametrize("left", [0, 5, 1000, -100])
def test_damaged_weights_are_one_line(form: Any, left: int, tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path, form=form)
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(ConfigError, match=r"not a whole safetensors|plain weights") as caught:
        OpenClipEncoder(settings(config, weights))
    assert str(caught.value).startswith(f"{weights}: ")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    config, weights = tiny_openclip(tmp_path, form="pt")
    torch.save({"token_embedding.weight": Trap()}, weights)
    with pytest.raises(ConfigError, match="plain weights"):
        OpenClipEncoder(settings(config, weights))
    assert not (tmp_path / "ran").exists()


def test_one_block_has_no_penultimate(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path, layers=1)
    with pytest.raises(ConfigError, match=r"text\.layer"):
        openclip_geometry(settings(config, weights, layer="penultimate"))
    assert OpenClipEncoder(settings(config, weights)).encode(["red"]).isfinite().all()


def test_other_weights_have_another_fingerprint(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    first = openclip_fingerprint(settings(config, weights))
    _, other = tiny_openclip(tmp_path, seed=1)
    assert other == weights
    assert openclip_fingerprint(settings(config, weights)) != first
    assert first.startswith("openclip-")


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, weights = tiny_openclip(tmp_path)
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = openclip_fingerprint(settings(config, weights))
    one = settings(f"~/{config.name}", f"${{WEIGHTS}}/{weights.name}")
    assert openclip_fingerprint(one) == expected
