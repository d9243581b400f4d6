"""CLIP score against the whole models that open_clip itself builds, and against hand-set ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nas_t2i.conditioning.openclip_files import find_architecture
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.metrics.clip import make_clip_score
from nas_t2i.evaluation.metrics.common.clip_model import _images
from tests.conditioning.checkpoints import edit_json, tiny_openclip
from tests.evaluation.metrics.images import make_image, make_images

PROMPTS = ["a red circle", "", "Two BLUE squares, to the left of a very long row of things!"]


def score(config: Path, weights: Path, count: int = 3, **options: Any) -> list[float]:
    metric = make_clip_score(str(config), str(weights), **options)
    return metric.score(make_images(count), (PROMPTS * count)[:count])


@torch.no_grad()
def oracle(config: Path, weights: Path, prefix: str = "") -> list[float]:
    """The cosines by open_clip's own loading and preprocessing."""
    model = open_clip.CLIP(**json.loads(config.read_text()))
    open_clip.load_checkpoint(model, str(weights))
    transform = open_clip.image_transform(32, is_train=False)
    pixels = torch.stack([transform(image) for image in make_images(3)])
    image = model.eval().encode_image(pixels)
    text = model.encode_text(open_clip.SimpleTokenizer()([prefix + text for text in PROMPTS]))
    return torch.cosine_similarity(image, text).tolist()


def hand_set(folder: Path, image: list[float], text: list[float]) -> tuple[Path, Path]:
    """A model that embeds every image as `image` and every text as `text` (2 numbers each)."""
    config, weights = tiny_openclip(folder)
    state = load_file(weights)
    for norm, projection, value in (
        ("visual.ln_post", "visual.proj", image),
        ("ln_final", "text_projection", text),
    ):
        # The norm puts out its bias, which is (1, 0, 0, ...); the projection's first row follows.
        state[f"{norm}.weight"].zero_()
        state[f"{norm}.bias"].zero_()[0] = 1.0
        state[projection].zero_()[0, : len(value)] = torch.tensor(value)
    save_file(state, weights)
    return config, weights


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_the_score_is_the_cosine_of_open_clips_own_embeddings(
    quick_gelu: bool, tmp_path: Path
) -> None:
    config, weights = tiny_openclip(tmp_path)
    edit_json(config, quick_gelu=quick_gelu)
    scores = score(config, weights)
    assert scores == pytest.approx(oracle(config, weights), abs=1e-6)
    assert max(scores) - min(scores) > 1e-3
    assert max(map(abs, scores)) < 1.0


@pytest.mark.parametrize("layout", ["clip", "custom"])
@pytest.mark.parametrize("form", ["safetensors", "pt", "training"])
def test_every_form_of_a_checkpoint_is_the_same_model(
    form: Any, layout: Any, tmp_path: Path
) -> None:
    plain = score(*tiny_openclip(tmp_path / "plain"))
    assert score(*tiny_openclip(tmp_path / "one", form=form, layout=layout)) == plain


@pytest.mark.parametrize(
    ("image", "text", "cosine"),
    [
        ([1.0, 0.0], [3.0, 0.0], 1.0),
        ([1.0, 0.0], [-2.0, 0.0], -1.0),
        ([1.0, 0.0], [0.0, 5.0], 0.0),
        ([1.0, 0.0], [1.0, math.sqrt(3)], 0.5),
    ],
)
def test_oracles(image: list[float], text: list[float], cosine: float, tmp_path: Path) -> None:
    files = hand_set(tmp_path, image, text)
    assert score(*files) == pytest.approx([cosine] * 3, abs=1e-6)
    assert score(*files, scale=100.0) == pytest.approx([100 * cosine] * 3, abs=1e-4)
    clipscore = score(*files, prefix="A photo depicts ", scale=2.5, clamp=True)
    assert clipscore == pytest.approx([2.5 * max(cosine, 0.0)] * 3, abs=1e-5)


def test_the_prefix_is_read_with_the_prompt(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    prefixed = score(config, weights, prefix="A photo depicts ")
    assert prefixed == pytest.approx(oracle(config, weights, "A photo depicts "), abs=1e-6)
    assert prefixed != pytest.approx(score(config, weights), abs=1e-4)


def test_a_score_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    metric = make_clip_score(*map(str, tiny_openclip(tmp_path)))
    images, prompts = make_images(35), (PROMPTS * 12)[:35]  # two passes
    single = [metric.score([i], [p])[0] for i, p in zip(images, prompts, strict=True)]
    assert metric.score(images, prompts) == pytest.approx(single, abs=1e-6)
    assert metric.score(images[::-1], prompts[::-1]) == pytest.approx(single[::-1], abs=1e-6)
    assert metric.score([], []) == []
    with pytest.raises(ValueError, match="35 images but 1 prompts"):
        metric.score(images, ["one"])


def test_whatever_changes_a_score_is_in_the_identity(tmp_path: Path) -> None:
    files = [str(f) for f in tiny_openclip(tmp_path / "one")]
    other = [str(f) for f in tiny_openclip(tmp_path / "two", seed=1)]
    edited, _ = tiny_openclip(tmp_path / "three")
    edit_json(edited, quick_gelu=True)
    options: list[dict[str, Any]] = [{}, {"prefix": "x"}, {"scale": 100.0}, {"clamp": True}]
    identities = [make_clip_score(*files, **kinds).identity for kinds in options]
    identities += [
        make_clip_score(*other).identity,
        make_clip_score(str(edited), files[1]).identity,
    ]
    assert len(set(identities)) == len(identities)
    assert identities[0] == make_clip_score(*files).identity
    for part in ("prefix=''", "scale=1;", "clamp=none", "resize=shortest bicubic 32", "float32"):
        assert part in identities[0]
    assert "\n" not in identities[0]


def test_the_resize_rule_of_a_hubs_config_is_kept(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    hub = tmp_path / "open_clip_config.json"
    rule = {"mean": [0.5, 0.5, 0.5], "std": 0.25, "interpolation": "bilinear"}
    rule["resize_mode"] = "squash"
    model = json.loads(config.read_text())
    hub.write_text(json.dumps({"model_cfg": model, "preprocess_cfg": rule}))
    metric = make_clip_score(str(hub), str(weights))
    assert "resize=squash bilinear 32" in metric.identity
    assert "mean=(0.5, 0.5, 0.5); std=(0.25, 0.25, 0.25)" in metric.identity
    # Squashed, not cropped: the sides of a wide image are seen.
    wide = make_image(0, 96, 32)
    cut = Image.new("RGB", wide.size)
    cut.paste(wide.crop((32, 0, 64, 32)), (32, 0))
    first, second = metric.score([wide, cut], ["a", "a"])
    assert first != second
    cropping = make_clip_score(str(config), str(weights))
    first, second = cropping.score([wide, cut], ["a", "a"])
    assert first == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "checkpoint", "mode", "interpolation"),
    [
        ("ViT-H-14-quickgelu", "dfn5b", "squash", "bicubic"),  # as the tag has it
        ("ViT-H-14", "laion2b_s32b_b79k", "shortest", "bicubic"),
        ("ViT-H-14", "weights.pt", "shortest", "bicubic"),  # its tags disagree
        ("PE-Core-B-16", "weights.pt", "squash", "bilinear"),  # as all its tags have it
    ],
)
def test_the_resize_rule_of_named_architectures(
    name: str, checkpoint: str, mode: str, interpolation: str
) -> None:
    rule = _images(find_architecture(name, "clip_score"), checkpoint)
    assert (rule.resize_mode, rule.interpolation) == (mode, interpolation)


@pytest.mark.parametrize(
    ("model", "checkpoint", "message"),
    [
        ("ViT-L14", "a.pt", "clip.model: got 'ViT-L14', which .*; did you mean 'ViT-L-14'"),
        ("missing.json", "a.pt", "missing.json: no such file"),
        ("ViT-H-14", "laion2b_s32b_b79", "did you mean 'laion2b_s32b_b79k'"),
        ("ViT-H-14", "none.safetensors", "clip.checkpoint: no file 'none.safetensors'"),
        ("ViT-L-14", "openai", "trained with QuickGELU; expected 'ViT-L-14-quickgelu'"),
        ("ViT-B-16-SigLIP", "webli", "text tower and tokenizer"),
        ("coca_ViT-B-32", "a.pt", "writes captions too"),
    ],
)
def test_what_there_is_not_is_named(model: str, checkpoint: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_clip_score(model, checkpoint)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    config, weights = tiny_openclip(tmp_path)
    state = load_file(weights)
    cases = {
        "no visual.proj .1 tensors are missing": {
            k: v for k, v in state.items() if k != "visual.proj"
        },
        "extra.weight .1 tensors too many": {**state, "extra.weight": torch.zeros(1)},
        "visual.proj is 2 x 2, not 16 x 16": {**state, "visual.proj": torch.zeros(2, 2)},
    }
    for message, tensors in cases.items():
        save_file(tensors, weights)
        with pytest.raises(ConfigError, match=message):
            make_clip_score(str(config), str(weights))
    config.write_text('{"embed_dim": 16, "text_cfg": {}}')
    with pytest.raises(ConfigError, match=r"not an OpenCLIP model config .KeyError: 'vision_cfg'"):
        make_clip_score(str(config), str(weights))
