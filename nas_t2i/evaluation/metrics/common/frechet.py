"""FID: how far the features of generated images are from those of real ones.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
2017: the squared Fréchet distance of two normal distributions with the sets' means and covariances,
``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``. Smaller is better, 0 is equal.

FID falls as the sample grows (Chong and Forsyth, "Effectively Unbiased FID and Inception Score",
2020), so two figures compare only at the same number of images, extractor, resize rule and set of
real images. All that stands in the statistics and is checked, but the number.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas_t2i.errors import ConfigError, IncomparableError
from nas_t2i.files import write_atomically

FloatArray = npt.NDArray[np.float64]

# Enough groups to know the error to a quarter; each costs one more distance, at 2048 features about
# 10 seconds of one core.
GROUPS = 10
_KEYS = ("n", "total", "outer", "extractor", "images")


@dataclass(eq=False)
class FeatureStatistics:
    """Sums over the features of a set of images: number, sum x, sum x x^T; float64.

    Sums of parts of a set merge to the sums of the whole, in any order.
    """

    dim: int
    extractor: str  # its identity
    images: str = ""  # what the images are: a name, a hash
    n: int = 0

    def __post_init__(self) -> None:
        self.total: FloatArray = np.zeros(self.dim)
        self.outer: FloatArray = np.zeros((self.dim, self.dim))

    def add(self, features: npt.ArrayLike) -> None:
        """Add (N, dim) features. Raises ValueError for another shape, and for NaN and infinity."""
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"expected features of shape (N, {self.dim}), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("features that are no finite numbers")
        self.n += len(rows)
        self.total += rows.sum(axis=0)
        self.outer += rows.T @ rows

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Return the statistics of both sets together.

        Raises:
            IncomparableError: other extractors, or other names for what the images are.
        """
        _check_extractors(self, other)
        if self.images != other.images:
            raise IncomparableError(
                f"statistics of {self.images!r} and of {other.images!r} can't be merged"
            )
        both = FeatureStatistics(self.dim, self.extractor, self.images, self.n + other.n)
        both.total, both.outer = self.total + other.total, self.outer + other.outer
        return both

    @property
    def mean(self) -> FloatArray:
        """(dim,). Raises ValueError of no images."""
        if not self.n:
            raise ValueError("no images have no mean")
        return self.total / self.n

    @property
    def cov(self) -> FloatArray:
        """(dim, dim), symmetric, over n - 1. Raises ValueError of fewer than two images."""
        if self.n < 2:
            raise ValueError(f"a covariance needs 2 images or more, got {self.n}")
        mean = self.mean
        cov: FloatArray = (self.outer - self.n * np.outer(mean, mean)) / (self.n - 1)
        return (cov + cov.T) / 2

    @property
    def caution(self) -> str:
        """What to say of a sample that is too small for its features; "" where it is not."""
        if self.n > self.dim:
            return ""
        return (
            f"FID over {self.n} images: a covariance of {self.dim} features needs more than "
            f"{self.dim}, so the figure is far too high; compare it at the same number only"
        )

    def save(self, file: str | Path) -> None:
        """Write an .npz file, whole or not at all. Raises StorageError."""
        stream = io.BytesIO()
        np.savez(
            stream,
            n=np.int64(self.n),
            total=self.total,
            outer=self.outer,
            extractor=np.str_(self.extractor),
            images=np.str_(self.images),
        )
        write_atomically(file, stream.getvalue())

    @classmethod
    def load(
        cls, file: str | Path, *, extractor: str | None = None, images: str | None = None
    ) -> FeatureStatistics:
        """Read a file that `save` wrote; nothing in it is unpickled.

        Raises:
            ConfigError: not such a file; or of another extractor, or of other images, than those
                given.
        """
        data = _read(Path(file))
        found = {key: str(data[key]) for key in ("extractor", "images")}
        for key, expected in (("extractor", extractor), ("images", images)):
            if expected is not None and found[key] != expected:
                raise ConfigError(
                    str(file), f"statistics of the {key} {found[key]!r}", expected=repr(expected)
                )
        statistics = cls(len(data["total"]), **found, n=int(data["n"]))
        statistics.total, statistics.outer = data["total"], data["outer"]
        return statistics


def distance_with_error(
    groups: Sequence[FeatureStatistics], reference: FeatureStatistics
) -> tuple[float, float]:
    """Return FID of all groups of images together, and its standard error.

    FID is the squared Fréchet distance of Inception's features; 0 or more.

    The error is the jackknife's over groups (each left out in turn; Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 11): how much the figure would move with other
    images of the same number. The reference counts as fixed. On normal features it is within
    15 % of the true error for samples of twice the features or more, and up to a third too wide
    where `FeatureStatistics.caution` speaks. It knows nothing of the bias, by which all figures at
    one number are too high. Groups should be of about equal size and no sorted parts of the set:
    image i into group i mod GROUPS. NaN with fewer than two groups of images.

    Raises:
        IncomparableError: statistics of two extractors, or of other images.
        ValueError: fewer than two images, or no groups.
    """
    if not groups:
        raise ValueError("no groups of images")
    filled = [group for group in groups if group.n] or list(groups[:1])
    whole = filled[0]
    for group in filled[1:]:
        whole = whole.merge(group)
    _check_extractors(whole, reference)
    factor = _factor(reference.cov)
    value = _distance(whole, reference, factor)
    if len(filled) < 2 or any(whole.n - group.n < 2 for group in filled):
        return value, math.nan
    left_out = np.array([_distance(_without(whole, g), reference, factor) for g in filled])
    variance = (len(filled) - 1) * left_out.var()
    return value, math.sqrt(variance)


def _distance(
    first: FeatureStatistics, second: FeatureStatistics, second_factor: FloatArray
) -> float:
    difference = first.mean - second.mean
    first_cov = first.cov
    # With S1 = A A^T and S2 = B B^T, tr (S1 S2)^(1/2) is the sum of the singular values of A^T B.
    # The square roots of the eigenvalues of S1 S2 are the same numbers, but where they are 0 turn
    # rounding errors of 1e-16 into 1e-8, thousands of times.
    cross = np.linalg.svd(_factor(first_cov).T @ second_factor, compute_uv=False).sum()
    value = difference @ difference + np.trace(first_cov) + np.trace(second.cov) - 2 * cross
    return max(0.0, float(value))


def _factor(matrix: FloatArray) -> FloatArray:
    """Return A of shape (dim, rank) with A A^T = a covariance matrix."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > len(values) * np.finfo(np.float64).eps * values.max()
    factor: FloatArray = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def _without(whole: FeatureStatistics, part: FeatureStatistics) -> FeatureStatistics:
    rest = FeatureStatistics(whole.dim, whole.extractor, whole.images, whole.n - part.n)
    rest.total, rest.outer = whole.total - part.total, whole.outer - part.outer
    return rest


def _check_extractors(first: FeatureStatistics, second: FeatureStatistics) -> None:
    if (first.extractor, first.dim) != (second.extractor, second.dim):
        raise IncomparableError(
            f"features of {first.extractor!r} ({first.dim}) and of {second.extractor!r} "
            f"({second.dim}) have no distance"
        )


def _read(file: Path) -> dict[str, npt.NDArray[np.float64]]:
    expected = "feature statistics as nas-t2i writes them"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive]
            data = {} if missing else {key: archive[key] for key in _KEYS}
    except FileNotFoundError:
        raise ConfigError(str(file), "no such file", expected=expected) from None
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ConfigError(
            str(file), f"can't be read ({type(error).__name__})", expected=expected
        ) from None
    if missing:
        # mu and sigma of other programs don't say what extractor they are of.
        raise ConfigError(str(file), f"no array {missing[0]!r}", expected=expected)
    total, outer = data["total"], data["outer"]
    whole = (
        data["n"].shape == data["extractor"].shape == data["images"].shape == ()
        and total.dtype == outer.dtype == np.float64
        and total.ndim == 1
        and outer.shape == 2 * total.shape
        and np.isfinite(total).all()
        and np.isfinite(outer).all()
    )
    if not whole:
        raise ConfigError(str(file), "arrays of other shapes or no numbers", expected=expected)
    return data
