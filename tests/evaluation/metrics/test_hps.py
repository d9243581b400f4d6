"""HPSv2's letterbox and versions, on a small model in the form of its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.metrics.hps import letterbox, make_hps
from tests.conditioning.checkpoints import tiny_openclip
from tests.evaluation.metrics.images import make_image, make_images
from tests.evaluation.metrics.test_clip import PROMPTS, hand_set


def tiny_hps(folder: Path, name: str = "HPS_v2.1_compressed.pt") -> tuple[Path, Path]:
    """A checkpoint as the official ones: half precision, under state_dict."""
    config, plain = tiny_openclip(folder, form="pt")
    weights = folder / name
    state = torch.load(plain, weights_only=True)
    half = {key: value.half() for key, value in state.items()}
    torch.save({"epoch": 1, "name": "hps", "state_dict": half}, weights)
    return config, weights


@torch.no_grad()
def oracle(config: Path, weights: Path) -> list[float]:
    model = open_clip.CLIP(**json.loads(config.read_text()))
    open_clip.load_checkpoint(model, str(weights))
    mean, std = (
        torch.tensor(value).view(3, 1, 1)
        for value in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    pixels = []
    for image in make_images(3):
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        sides = [round(side * 32 / max(image.size)) for side in (image.height, image.width)]
        small = torch.nn.functional.interpolate(values, sides, mode="bicubic", antialias=True)[0]
        canvas = torch.zeros(3, 32, 32)
        top, left = (32 - sides[0]) // 2, (32 - sides[1]) // 2
        canvas[:, top : top + sides[0], left : left + sides[1]] = small
        pixels.append((canvas - mean) / std)
    image = model.eval().encode_image(torch.stack(pixels))
    text = model.encode_text(open_clip.SimpleTokenizer()(PROMPTS))
    return torch.cosine_similarity(image, text).tolist()


def test_the_score_is_the_cosine_of_a_letterboxed_image(tmp_path: Path) -> None:
    config, weights = tiny_hps(tmp_path)
    metric = make_hps(str(weights), "v2.1", model=str(config))
    scores = metric.score(make_images(3), PROMPTS)
    assert scores == pytest.approx(oracle(config, weights), abs=1e-6)
    assert max(scores) - min(scores) > 1e-3
    single = [metric.score([i], [p])[0] for i, p in zip(make_images(3), PROMPTS, strict=True)]
    assert scores == pytest.approx(single, abs=1e-6)


def test_oracles(tmp_path: Path) -> None:
    for row, (text, cosine) in enumerate([([2.0, 0.0], 1.0), ([-1.0, 0.0], -1.0), ([0, 1.0], 0.0)]):
        config, weights = hand_set(tmp_path / str(row), [1.0, 0.0], text)
        metric = make_hps(str(weights), "v2.0", model=str(config))
        assert metric.score([make_image(0)], ["a"]) == pytest.approx([cosine], abs=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (448, 224, slice(56, 168), slice(0, 224)),
        (100, 200, slice(0, 224), slice(56, 168)),
        (64, 64, slice(0, 224), slice(0, 224)),
        (224, 224, slice(0, 224), slice(0, 224)),
        (224, 101, slice(61, 162), slice(0, 224)),  # 123 rows of padding: 61 above, 62 below
        (1000, 1, slice(111, 112), slice(0, 224)),  # one row is kept of the thinnest image
    ],
)
def test_the_letterbox(width: int, height: int, rows: slice, columns: slice) -> None:
    pixels = letterbox(Image.new("RGB", (width, height), (255, 51, 0)), 224)
    expected = torch.zeros(3, 224, 224)
    expected[0, rows, columns], expected[1, rows, columns] = 1.0, 0.2
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_versions_are_told_apart(tmp_path: Path) -> None:
    config, weights = tiny_hps(tmp_path)
    copy = weights.with_name("copy.pt")
    copy.write_bytes(weights.read_bytes())
    old = make_hps(str(copy), "v2.0", model=str(config))
    new = make_hps(str(weights), "v2.1", model=str(config))
    assert (old.name, new.name) == ("hps_v2.0", "hps_v2.1")
    assert old.identity != new.identity
    assert "version=v2.1" in new.identity
    assert "letterbox bicubic antialias 32" in new.identity
    with pytest.raises(
        ConfigError, match=r"got 'v2.0' for HPS_v2.1_compressed.pt; expected 'v2.1'"
    ):
        make_hps(str(weights), "v2.0", model=str(config))
    with pytest.raises(ConfigError, match=r"hps.version: got '2.1'; .* did you mean 'v2.1'"):
        make_hps(str(weights), "2.1", model=str(config))


def test_the_real_architecture_asks_for_real_weights(tmp_path: Path) -> None:
    _, weights = tiny_hps(tmp_path)
    with pytest.raises(ConfigError, match=r"weights of the OpenCLIP architecture ViT-H-14: no "):
        make_hps(str(weights), "v2.1")
    with pytest.raises(ConfigError, match=r"hps.checkpoint: no file .* did you mean"):
        make_hps(str(tmp_path / "HPS_v2.1_compresed.pt"), "v2.1")
