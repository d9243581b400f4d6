"""torch-fidelity's InceptionV3 with random weights, in a file of the genuine form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.metrics.common.frechet import FeatureStatistics
from nas_t2i.evaluation.metrics.common.inception import InceptionFeatures, central_square
from tests.evaluation.metrics.images import make_image, make_images

feature_extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
NAME = "weights-inception-2015-12-05-6726825d.pth"


def empty_model(patch: pytest.MonkeyPatch) -> Any:
    """torch-fidelity's module as it is built, before it loads anything."""
    kind = feature_extractor.FeatureExtractorInceptionV3
    with patch.context() as patched:
        patched.setattr(feature_extractor, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(kind, "load_state_dict", lambda *_: None)
        return kind("inception-v3-compat", ["2048"])


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """A network whose features neither vanish nor explode."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = empty_model(patch)
        for name, value in model.state_dict().items():
            if name.endswith("conv.weight"):
                value.normal_(0.0, math.sqrt(2 / value[0].numel()))
        yield model


@pytest.fixture(scope="module")
def weights(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("inception") / NAME
    torch.save(model.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def extractor(weights: Path) -> InceptionFeatures:
    return InceptionFeatures(str(weights))


def test_the_features_are_torch_fidelitys(model: Any, extractor: InceptionFeatures) -> None:
    image = make_image(0)
    (expected,) = model(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
    features = extractor.features([image])
    assert (features.shape, features.dtype) == ((1, 2048), np.float64)
    assert np.array_equal(features[0], expected[0].double().numpy())
    assert features.std() > 0.01


def test_features_do_not_depend_on_the_batch(extractor: InceptionFeatures) -> None:
    # Two sizes one after the other, then the first again: three passes.
    images = [make_image(0), make_image(1), make_image(2, 64, 48), make_image(3)]
    single = np.concatenate([extractor.features([image]) for image in images])
    np.testing.assert_allclose(extractor.features(images), single, rtol=1e-4, atol=1e-5)
    assert np.abs(single[0] - single[1]).max() > 1e-3
    assert extractor.features([]).shape == (0, 2048)


def test_features_go_into_statistics(extractor: InceptionFeatures) -> None:
    statistics = FeatureStatistics(extractor.dim, extractor.identity)
    features = extractor.features(make_images(3))
    for row in features:
        statistics.add(row[None])
    np.testing.assert_allclose(statistics.mean, features.mean(axis=0), rtol=1e-12)
    assert "2048 features" in statistics.caution


def test_images_are_squared_first_where_asked_and_the_identity_says_so(
    extractor: InceptionFeatures, model: Any, tmp_path: Path
) -> None:
    file = tmp_path / "inception.safetensors"  # read as well
    save_file(model.state_dict(), file)
    squared = InceptionFeatures(str(file), side=24)
    assert "resize=TensorFlow 1 bilinear 299;" in extractor.identity
    assert "resize=centre square, bicubic 24, then TensorFlow 1 bilinear 299;" in squared.identity
    image = make_image(0, 48, 32)
    by_hand = extractor.features([central_square(image, 24)])
    np.testing.assert_allclose(squared.features([image]), by_hand, rtol=1e-4, atol=1e-5)
    assert "\n" not in squared.identity


def test_the_central_square() -> None:
    wide = Image.new("RGB", (9, 4))
    wide.paste((255, 0, 0), (2, 0, 6, 4))
    assert central_square(wide, 8).getcolors() == [(64, (255, 0, 0))]
    high = wide.transpose(Image.Transpose.TRANSPOSE)
    assert central_square(high, 2).getcolors() == [(4, (255, 0, 0))]


def test_the_hub_cache_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "checkpoints" / NAME)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=f"{NAME}: not weights of torch-fidelity's InceptionV3"):
        InceptionFeatures()


def test_without_the_network_the_file_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of the cache that no file can be made in, whatever the network says.
    (tmp_path / "checkpoints").write_text("")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ConfigError, match=f"{NAME} can't be downloaded .*; download https://"):
        InceptionFeatures()


class Rogue:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_other_files_are_refused_and_run_no_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2)}, file)
    with pytest.raises(ConfigError, match="not weights of torch-fidelity's InceptionV3") as caught:
        InceptionFeatures(str(file))
    assert "\n" not in str(caught.value)
    torch.save(Rogue(), file)
    with pytest.raises(ConfigError, match="can't be read as plain weights"):
        InceptionFeatures(str(file))
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match=r"fid.inception: no file"):
        InceptionFeatures(str(tmp_path / "none.pth"))
