"""FID's arithmetic against distances known in closed form, and its statistics on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nas_t2i.errors import ConfigError, IncomparableError
from nas_t2i.evaluation.metrics.common.frechet import (
    GROUPS,
    FeatureStatistics,
    distance_with_error,
)

FloatArray = npt.NDArray[np.float64]


def distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    return distance_with_error([first], second)[0]


def of(features: npt.ArrayLike, extractor: str = "e", images: str = "") -> FeatureStatistics:
    rows = np.asarray(features, dtype=np.float64)
    statistics = FeatureStatistics(rows.shape[1], extractor, images)
    statistics.add(rows)
    return statistics


def with_moments(mean: npt.ArrayLike, cov: npt.ArrayLike) -> FeatureStatistics:
    """Statistics of exactly that mean and covariance: the corners of a cross, n - 1 and all."""
    centre, matrix = np.asarray(mean, dtype=np.float64), np.asarray(cov, dtype=np.float64)
    values, vectors = np.linalg.eigh(matrix)
    n = 2 * len(centre)
    arms = (vectors * np.sqrt(values * (n - 1) / 2)).T
    return of(np.concatenate([centre + arms, centre - arms]))


def draw(seed: int, n: int, dim: int) -> FloatArray:
    """Correlated normal features."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dim, dim)) / math.sqrt(dim)
    features: FloatArray = generator.normal(size=(n, dim)) @ mixing + 0.5
    return features


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (([0.0], [[1.0]]), ([3.0], [[1.0]]), 9.0),
        (([0.0] * 4, np.eye(4)), ([0.0] * 4, 4 * np.eye(4)), 4.0),
        (([0.0] * 4, np.diag([1.0, 4.0, 9.0, 16.0])), ([0.0] * 4, 4 * np.eye(4)), 6.0),
        (
            ([0.0] * 2, [[2.0, 1.0], [1.0, 2.0]]),
            ([0.0] * 2, [[2.0, -1.0], [-1.0, 2.0]]),
            8 - 4 * math.sqrt(3),
        ),
    ],
)
def test_distances_known_in_closed_form(
    first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray], expected: float
) -> None:
    a, b = with_moments(*first), with_moments(*second)
    assert distance(a, b) == pytest.approx(expected, abs=1e-9)
    assert distance(b, a) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "dim"), [(200, 16), (40, 64)])  # regular, and of low rank
def test_a_set_is_at_no_distance_from_itself(n: int, dim: int) -> None:
    features = draw(0, n, dim)
    assert distance(of(features), of(features)) == pytest.approx(0.0, abs=1e-9)
    moved = features + 2.0 / math.sqrt(dim)
    assert distance(of(features), of(moved)) == pytest.approx(4.0, abs=1e-9)


def test_images_that_are_all_the_same_are_a_point() -> None:
    features = draw(0, 50, 6)
    reference = of(features)
    point = of(np.full((9, 6), 2.0))
    expected = ((features.mean(axis=0) - 2.0) ** 2).sum() + features.var(axis=0, ddof=1).sum()
    assert distance(point, reference) == pytest.approx(expected, rel=1e-12)
    assert distance(point, point) == 0.0


def test_the_distance_is_torch_fidelitys() -> None:
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = draw(0, 300, 24), 1.3 * draw(1, 250, 24) + 0.1
    moments = [{"mu": x.mean(axis=0), "sigma": np.cov(x, rowvar=False)} for x in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(*moments, verbose=False)
    expected = theirs["frechet_inception_distance"]
    assert expected > 0.5
    assert distance(of(a), of(b)) == pytest.approx(expected, rel=1e-9)


def test_moments_are_numpys() -> None:
    features = draw(3, 50, 6)
    statistics = FeatureStatistics(6, "e")
    for start in range(0, 50, 7):
        statistics.add(features[start : start + 7])
    assert statistics.n == 50
    np.testing.assert_allclose(statistics.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.cov, np.cov(features, rowvar=False), rtol=1e-10)


rows = st.integers(0, 5).flatmap(
    lambda n: arrays.arrays(np.float64, (n, 3), elements=st.integers(-1000, 1000).map(float))
)


@given(rows, rows, rows)
def test_parts_merge_in_any_order(a: FloatArray, b: FloatArray, c: FloatArray) -> None:
    # Whole numbers add up exactly, so the order may not even change the last digit.
    x, y, z = of(a), of(b), of(c)
    whole = of(np.concatenate([a, b, c]))
    for merged in (x.merge(y).merge(z), x.merge(y.merge(z)), z.merge(x).merge(y)):
        assert merged.n == whole.n
        assert np.array_equal(merged.total, whole.total)
        assert np.array_equal(merged.outer, whole.outer)


def test_what_can_not_be_compared_or_added_is_refused() -> None:
    features = draw(0, 9, 3)
    for other in (of(features, extractor="f"), of(draw(0, 9, 4))):
        with pytest.raises(IncomparableError, match="have no distance"):
            distance(of(features), other)
        with pytest.raises(IncomparableError):
            of(features).merge(other)
    with pytest.raises(IncomparableError, match="'' and of 'real' can't be merged"):
        of(features).merge(of(features, images="real"))
    with pytest.raises(ValueError, match=r"shape \(N, 3\), got \(9, 4\)"):
        of(features).add(draw(0, 9, 4))
    with pytest.raises(ValueError, match="no finite numbers"):
        of(features).add([[math.nan, 0.0, 0.0]])
    with pytest.raises(ValueError, match="2 images or more, got 1"):
        distance(of(features), of(features[:1]))
    with pytest.raises(ValueError, match="no groups"):
        distance_with_error([], of(features))


def test_a_small_sample_is_cautioned() -> None:
    assert of(draw(0, 5, 4)).caution == ""
    assert "FID over 4 images: a covariance of 4 features" in of(draw(0, 4, 4)).caution


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    statistics = of(draw(0, 20, 3), images="coco val2014")
    file = tmp_path / "reference.npz"
    statistics.save(file)
    first = file.read_bytes()
    again = FeatureStatistics.load(file, extractor="e", images="coco val2014")
    assert (again.n, again.dim, again.extractor, again.images) == (20, 3, "e", "coco val2014")
    assert np.array_equal(again.total, statistics.total)
    assert np.array_equal(again.outer, statistics.outer)
    again.save(file)
    assert file.read_bytes() == first


def test_statistics_of_another_extractor_or_set_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "reference.npz"
    of(draw(0, 20, 3), "inception; resize=a", "cats").save(file)
    with pytest.raises(ConfigError, match="the extractor 'inception; resize=a'; expected 'incep"):
        FeatureStatistics.load(file, extractor="inception; resize=b")
    with pytest.raises(ConfigError, match="the images 'cats'; expected 'dogs'"):
        FeatureStatistics.load(file, images="dogs")


class Rogue:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("run",)


def test_what_is_no_file_of_statistics_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "reference.npz"
    good = {"n": 5, "total": np.zeros(3), "outer": np.eye(3), "extractor": "e", "images": ""}
    bad = {
        "no array 'n'": {"mu": np.zeros(3), "sigma": np.eye(3)},
        "other shapes": {**good, "outer": np.eye(2)},
        "or no numbers": {**good, "total": np.full(3, np.nan)},
        "can't be read .ValueError": {**good, "total": np.array([Rogue()], dtype=object)},
    }
    for message, content in bad.items():
        np.savez(file, **content)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=message):
            FeatureStatistics.load(file)
    for content in (b"", b"PK\x03\x04 cut short", np.zeros(3).tobytes()):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match="can't be read"):
            FeatureStatistics.load(file)
    np.save(file.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ConfigError, match="can't be read"):
        FeatureStatistics.load(file.with_suffix(".npy"))
    with pytest.raises(ConfigError, match="no such file"):
        FeatureStatistics.load(tmp_path / "none.npz")
    assert capsys.readouterr().out == ""


def in_groups(features: FloatArray, groups: int = GROUPS) -> list[FeatureStatistics]:
    return [of(features[row::groups]) for row in range(groups)]


def test_the_error_is_how_much_the_figure_moves_with_other_images() -> None:
    reference = of(1.2 * draw(1000, 4000, 8) + 0.2)
    figures = [distance_with_error(in_groups(draw(s, 300, 8)), reference) for s in range(120)]
    values, errors = np.array(figures).T
    assert values[0] == pytest.approx(distance(of(draw(0, 300, 8)), reference), rel=1e-9)
    # 120 figures know their deviation to 7 %, and the jackknife is known to err to the high side.
    assert 0.85 < np.sqrt(np.mean(errors**2)) / values.std(ddof=1) < 1.3


def test_there_is_no_error_of_one_group() -> None:
    reference, features = of(draw(1, 50, 3)), draw(0, 50, 3)
    value, error = distance_with_error([of(features)], reference)
    assert value == pytest.approx(distance(of(features), reference))
    assert math.isnan(error)
    # Groups that got no image change nothing.
    empty = FeatureStatistics(3, "e")
    assert distance_with_error([empty, of(features)], reference)[0] == value
