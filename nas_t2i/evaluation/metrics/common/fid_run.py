"""FID of a set of images: the features of each block of them are computed once and kept.

A block's file is named by the extractor's identity and its images' digests, so that a run that
was stopped, and another run over the same images, find what was computed before.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.images import ImageSet, Problem
from nas_t2i.evaluation.metric_result import MetricResult, Report, missing_notes
from nas_t2i.evaluation.metrics.common.frechet import GROUPS, FeatureStatistics, distance_with_error
from nas_t2i.files import make_folder, write_atomically
from nas_t2i.records import Score

_BLOCK = 128  # images whose features share a file


class Extractor(Protocol):
    """What FID's features come from; see `nas_t2i.evaluation.metrics.common.inception`."""

    dim: int
    identity: str

    def features(self, images: list[Image.Image]) -> npt.NDArray[np.float64]:
        """(N, dim) features of RGB images of any size, in order."""
        ...


@dataclass(frozen=True)
class _Features:
    """Sums over a set of images, in groups, and what could not be read."""

    groups: list[FeatureStatistics]
    scored: list[str]
    missing: dict[str, str]

    @property
    def whole(self) -> FeatureStatistics:
        """All groups together."""
        first, *others = self.groups
        for group in others:
            first = first.merge(group)
        return first


def reference_statistics(
    reference: Path, extractor: Extractor, cache: Path, report: Report
) -> FeatureStatistics:
    """Return the statistics of the real images: an .npz file, or a folder of images.

    Raises:
        ConfigError: no such file or folder, statistics of another extractor, or fewer than two
            images that can be read.
    """
    if not reference.is_dir():
        return FeatureStatistics.load(reference, extractor=extractor.identity)
    images = ImageSet.from_folder(reference, blank_counts=True)
    whole = _features(images.ids, images, extractor, cache, report, "reference").whole
    if whole.n < 2:
        raise ConfigError(str(reference), f"{whole.n} images that can be read", expected="2")
    return whole


def score_fid(
    ids: Sequence[str],
    images: ImageSet,
    extractor: Extractor,
    reference: FeatureStatistics,
    cache: Path,
    report: Report,
) -> MetricResult:
    """Return the FID of the images with those ids against a reference."""
    features = _features(ids, images, extractor, cache, report, "fid")
    score, notes = None, missing_notes(features.missing, "image")
    if len(features.scored) >= 2:
        report("fid distance", 0, 1)  # a minute and more where there are many features
        value, stderr = distance_with_error(features.groups, reference)
        report("fid distance", 1, 1)
        score = Score(
            metric="fid",
            value=value,
            stderr=stderr,
            n=len(features.scored),
            n_missing=len(features.missing),
            # The number of images too: FID falls as it grows.
            signature=(
                f"fid|model={extractor.identity}|reference={reference.images},n={reference.n}"
                f"|images={images.rule}|n={len(features.scored)}"
            ),
        )
        cautions = [features.whole.caution, reference.caution.replace("FID", "reference", 1)]
        notes += filter(None, cautions)
    return MetricResult(
        metric="fid",
        score=score,
        better="smaller",
        prompts=features.scored,
        missing=features.missing,
        notes=notes,
        more={"model": extractor.identity},
    )


def _features(
    ids: Sequence[str],
    images: ImageSet,
    extractor: Extractor,
    cache: Path,
    report: Report,
    what: str,
) -> _Features:
    """Return the sums of the images' features, computed or kept from before."""
    make_folder(cache)
    scored: list[str] = []
    missing: dict[str, str] = {}
    blocks = []
    for block in _blocks(ids, images, missing, report, what):
        digests = [images.digest(name) for name, _ in block]
        file = cache / f"features-{_key(extractor, digests)}.npy"
        rows = _read(file, (len(block), extractor.dim))
        if rows is None:
            # The network computes in float32: nothing is lost.
            rows = extractor.features([image for _, image in block]).astype(np.float32)
            _write(file, rows)
        blocks.append((digests, rows))
        scored += [name for name, _ in block]
    report(what, len(ids), len(ids))
    name = hashlib.sha256(json.dumps([images.rule, [d for d, _ in blocks]]).encode())
    return _Features(
        summed([rows for _, rows in blocks], extractor, name.hexdigest()[:20]), scored, missing
    )


def summed(
    blocks: list[npt.NDArray[np.float32]], extractor: Extractor, images: str
) -> list[FeatureStatistics]:
    """Return the sums of rows of features, image i in group i mod GROUPS."""
    groups = [FeatureStatistics(extractor.dim, extractor.identity, images) for _ in range(GROUPS)]
    seen = 0
    for rows in blocks:
        of = (seen + np.arange(len(rows))) % GROUPS
        for number, group in enumerate(groups):
            group.add(rows[of == number])
        seen += len(rows)
    return groups


def _blocks(
    ids: Sequence[str], images: ImageSet, missing: dict[str, str], report: Report, what: str
) -> Iterator[list[tuple[str, Image.Image]]]:
    """Yield blocks of images that can be read; the others go to `missing`."""
    block: list[tuple[str, Image.Image]] = []
    for done, name in enumerate(ids):
        if len(block) == _BLOCK:
            yield block
            block = []
            report(what, done, len(ids))
        image = images.read(name)
        if isinstance(image, Problem):
            missing[name] = image.reason
        else:
            block.append((name, image))
    if block:
        yield block


def _key(extractor: Extractor, digests: list[str]) -> str:
    text = json.dumps([extractor.identity, digests])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read(file: Path, shape: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Return what is kept, None where it has to be computed (again)."""
    try:
        rows: npt.NDArray[np.float32] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.shape == shape and rows.dtype == np.float32 else None


def _write(file: Path, rows: npt.NDArray[np.float32]) -> None:
    stream = io.BytesIO()
    np.save(stream, rows)
    write_atomically(file, stream.getvalue())
