"""FID: distance of the images' Inception features from those of real images.

The features of each block of images are computed once and kept. A block's file is named by the
extractor's identity and its images' digests, so that a run that was stopped, and another run over
the same images, find what was computed before.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.images import ImageSet, Problem
from nas_t2i.evaluation.inputs.prompts import Prompt, prompts_digest
from nas_t2i.evaluation.inputs.provenance import signature
from nas_t2i.evaluation.metric import Metric, Resources, origin_part
from nas_t2i.evaluation.metrics.common.frechet import (
    GROUPS,
    FeatureStatistics,
    distance_with_error,
)
from nas_t2i.evaluation.metrics.common.weights import weights_file
from nas_t2i.evaluation.result import MetricResult, Report, missing_notes
from nas_t2i.files import expand_path, make_folder, write_atomically
from nas_t2i.protocol.evaluation import Better
from nas_t2i.records import Score

_BLOCK = 128  # images whose features share a file


class Extractor(Protocol):
    """What FID's features come from; see `nas_t2i.evaluation.metrics.common.inception`."""

    dim: int
    identity: str

    def features(self, images: list[Image.Image]) -> npt.NDArray[np.float64]:
        """(N, dim) features of RGB images of any size, in order."""
        ...


class FidMetric(Metric):
    """FID: distance of the drawn images' Inception features from those of real images."""

    DISPLAY_NAME: ClassVar[str] = "FID"
    BETTER: ClassVar[Better] = "smaller"

    metric: Literal["fid"]
    reference: str = Field(
        description="statistics of real images (.npz); for evaluate their folder, too"
    )
    inception: str | None = Field(
        default=None, description="InceptionV3's weights file; null: downloaded"
    )
    side: int | None = Field(
        default=None, ge=1, description="images are cut and resized to squares of it first"
    )

    def check(self) -> None:
        """Check the reference's file, and the file of Inception's weights."""
        FeatureStatistics.load(self._reference)
        if self.inception is not None:
            weights_file(self.inception, "fid.inception")

    def load(self, device: str = "cpu") -> FidScorer:
        """Load Inception; see `Metric.load`."""
        # Here, because it needs packages of its own.
        from nas_t2i.evaluation.metrics.common.inception import InceptionFeatures

        extractor = InceptionFeatures(self.inception, side=self.side, device=device)
        return FidScorer(self, self._reference, extractor)

    @property
    def _reference(self) -> Path:
        return expand_path(self.reference, "fid.reference")


class FidScorer:
    """The FID of images against a reference: an .npz file, or a folder of real images."""

    def __init__(self, settings: Metric, reference: Path, extractor: Extractor) -> None:
        self._settings, self._file, self.extractor = settings, reference, extractor
        self._reference: FeatureStatistics | None = None

    @property
    def reference(self) -> FeatureStatistics:
        """The statistics of the real images; there when `prepare` was called."""
        assert self._reference is not None
        return self._reference

    def prepare(self, resources: Resources) -> None:
        """Read the statistics of the real images, or compute them.

        Raises:
            ConfigError: no such file or folder, statistics of another extractor, or fewer than two
                images that can be read.
        """
        if self._reference is not None:
            return
        if not self._file.is_dir():
            self._reference = FeatureStatistics.load(self._file, extractor=self.extractor.identity)
            return
        images = ImageSet.from_folder(self._file, blank_counts=True)
        found = self._features(images.ids, images, resources, "reference")
        whole = _merged(found.sums(self.extractor))
        if whole.n < 2:
            raise ConfigError(str(self._file), f"{whole.n} images that can be read", expected="2")
        self._reference = whole

    def score(
        self, images: ImageSet, prompts: Sequence[Prompt], resources: Resources
    ) -> MetricResult:
        """Return the FID of the prompts' images, of all images without prompts; see `Scorer`."""
        self.prepare(resources)
        ids = [prompt.id for prompt in prompts] or images.ids
        own = resources.ranks.share(len(ids))
        parts = resources.ranks.gather(
            self._features(ids[own.start : own.stop], images, resources, "fid")
        )
        found = _Features.joined(parts, images.provenance.rule)
        score, notes = None, missing_notes(found.missing, "image")
        signed = self._signature(images, prompts, len(found.scored))
        if len(found.scored) >= 2:
            value, stderr = self._distance(found, resources)
            score = Score(
                metric="fid",
                value=value,
                stderr=stderr,
                n=len(found.scored),
                n_missing=len(found.missing),
                signature=signed,
                better=self._settings.BETTER,
            )
            cautions = (
                _merged(found.sums(self.extractor)).caution,
                self.reference.caution.replace("FID", "reference", 1),
            )
            notes += filter(None, cautions)
        return MetricResult(
            metric="fid",
            score=score,
            better=self._settings.BETTER,
            signature=signed,
            prompts=found.scored,
            missing=found.missing,
            notes=notes,
            more={"model": self.extractor.identity},
        )

    def _distance(self, found: _Features, resources: Resources) -> tuple[float, float]:
        """Return FID and its error, computed by the first rank: a minute where there is much."""
        both = (math.nan, math.nan)
        if resources.ranks.is_first:
            resources.report("fid distance", 0, 1)
            both = distance_with_error(found.sums(self.extractor), self.reference)
            resources.report("fid distance", 1, 1)
        value, stderr = resources.ranks.agree(both)
        return value, stderr

    def _signature(self, images: ImageSet, prompts: Sequence[Prompt], count: int) -> str:
        provenance, reference = images.provenance, self.reference
        return signature(
            "fid",
            f"model={self.extractor.identity}",
            f"reference={reference.images},n={reference.n}",
            provenance.images_part,
            # The number of images too: FID falls as it grows.
            f"n={count}",
            # Images from files may have no prompts: these are given at a rung only.
            f"prompts={prompts_digest(prompts)}" if provenance.at_rung else "",
            provenance.drawn_part,
            origin_part(self._settings),
        )

    def _features(
        self, ids: Sequence[str], images: ImageSet, resources: Resources, what: str
    ) -> _Features:
        """Return the features of images, computed or kept from before."""
        cache = None if resources.cache is None else resources.cache / "features"
        if cache is not None:
            make_folder(cache)
        found = _Features([], [], [], {}, images.provenance.rule)
        for block in _blocks(ids, images, found.missing, resources.report, what):
            digests = [images.digest(name) for name, _ in block]
            key = _key(self.extractor, digests)
            file = None if cache is None else cache / f"features-{key}.npy"
            rows = None if file is None else _read(file, (len(block), self.extractor.dim))
            if rows is None:
                # The network computes in float32: nothing is lost.
                rows = self.extractor.features([image for _, image in block]).astype(np.float32)
                if file is not None:
                    _write(file, rows)
            found.digests.append(digests)
            found.rows.append(rows)
            found.scored.extend(name for name, _ in block)
        resources.report(what, len(ids), len(ids))
        return found


@dataclass(frozen=True)
class _Features:
    """The features of a set of images in blocks, and what could not be read."""

    rows: list[npt.NDArray[np.float32]]
    digests: list[list[str]]
    scored: list[str]
    missing: dict[str, str]
    rule: str

    @classmethod
    def joined(cls, parts: Sequence[_Features], rule: str) -> _Features:
        """Return the shares of all ranks together."""
        whole = cls([], [], [], {}, rule)
        for part in parts:
            whole.rows.extend(part.rows)
            whole.digests.extend(part.digests)
            whole.scored.extend(part.scored)
            whole.missing.update(part.missing)
        return whole

    def sums(self, extractor: Extractor) -> list[FeatureStatistics]:
        """Return the sums of the features, image i in group i mod GROUPS."""
        name = hashlib.sha256(json.dumps([self.rule, self.digests]).encode()).hexdigest()[:20]
        groups = [FeatureStatistics(extractor.dim, extractor.identity, name) for _ in range(GROUPS)]
        seen = 0
        for rows in self.rows:
            of = (seen + np.arange(len(rows))) % GROUPS
            for number, group in enumerate(groups):
                group.add(rows[of == number])
            seen += len(rows)
        return groups


def _merged(groups: Sequence[FeatureStatistics]) -> FeatureStatistics:
    first, *others = groups
    for group in others:
        first = first.merge(group)
    return first


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
