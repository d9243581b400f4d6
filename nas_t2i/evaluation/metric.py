"""What a metric is: images with their provenance in, a result out.

One path makes every score. At a rung the images come from the model in training, for
``nas-t2i evaluate`` from files or from a checkpoint; `Scorer.score` does not know which, but for
the provenance that stands in the signature. Ranks share the work and all return the same result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from nas_t2i import plugins
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.evaluator import Evaluator, RungInputs
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.result import MetricResult, Report
from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.protocol.evaluation import EvaluationSettings, MetricSettings
from nas_t2i.training.ranks import Ranks


def silent(_what: str, _done: int, _of: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Resources:
    """What a metric may use while it scores; decides no score."""

    log: AnswerLog = field(default_factory=lambda: AnswerLog(None))  # answers, scores of images
    ranks: Ranks = field(default_factory=Ranks.alone)  # that share the images
    report: Report = silent
    cache: Path | None = None  # for what can be made again; None: keep nothing
    batch: int = 32  # images, or questions, of one pass of a model


class Content(NamedTuple):
    """A file whose content decides scores: a budget's id holds its path only."""

    part: str  # of signatures, that changes with the content
    file: str


class Scorer(Protocol):
    """A metric with its models loaded.

    `score` and `prepare` are called by all ranks together, each with the same images.
    """

    def prepare(self, resources: Resources) -> None:
        """Make what is needed besides the images, before any is drawn. Raises UserError."""

    def score(
        self, images: ImageSet, prompts: Sequence[Prompt], resources: Resources
    ) -> MetricResult:
        """Score the images of the prompts, by the prompts' ids; the same on every rank.

        Raises:
            ConfigError: no image has the id of a prompt.
            StorageError: the log or the cache can't be written.
        """


class Metric(MetricSettings, ABC):
    """A metric by its settings: what a plug-in of the kind ``metrics`` derives from.

    Its fields are the keys that stand beside ``metric: NAME`` under ``evaluation.metrics``.

    Attributes:
        DISPLAY_NAME: in tables and figures.
        BETTER: which scores are better.
        SCORES: the names of its scores in records, with what tables call them, where they are not
            just the metric's own; they begin with that.
        RANKED: its settings where studies are ranked by it; None: they can't be.
        BESIDE: whether it may stand beside the metric that is ranked by.
    """

    SCORES: ClassVar[dict[str, str]] = {}
    RANKED: ClassVar[type[RankedBy] | None] = None
    BESIDE: ClassVar[bool] = True

    @abstractmethod
    def load(self, device: str = "cpu") -> Scorer:
        """Load the models.

        Raises:
            ConfigError: a model that is missing, damaged, or of another kind.
            MissingExtraError: the packages of the metric are not installed.
        """

    def check(self) -> None:
        """Check that the files which the settings name are there; no model is loaded.

        Raises:
            ConfigError: one of them is not, or is of another kind.
        """

    def own_prompts(self) -> list[Prompt] | None:
        """Return the prompts to draw for this metric; None: it scores what is drawn anyway."""
        return None

    def content(self) -> Content | None:
        """Return what says in its signatures what a file holds; None: no file decides a score."""
        return None


class RankedBy(EvaluationSettings, ABC):
    """The settings under ``evaluation`` of a budget whose trials are ranked by a metric."""

    @abstractmethod
    def load(self, rung: RungInputs) -> Evaluator:
        """Return what scores a denoiser, models loaded. Raises as `Metric.load`."""

    def check(self, data: ShapesData | PairsData) -> None:
        """Check what is evaluated with, before any trial is trained.

        Of large models only local folders and files are looked for.

        Raises:
            UserError: questions, a mapping, a VQA model that can't be used.
        """

    def chance(self, data: ShapesData | PairsData) -> float | None:  # noqa: ARG002
        """Return what an uninformed model scores, None where there is no such level."""
        return None

    def content(self, data: ShapesData | PairsData) -> Content | None:  # noqa: ARG002
        """Return what says in its signatures what a file holds; None: no file decides a score."""
        return None

    @property
    def asks_a_model(self) -> bool:
        """Whether answers cost enough to be kept in a log."""
        return False


def origin_part(settings: MetricSettings | EvaluationSettings) -> str:
    """Return the part of a signature that says by whose code a plug-in from outside scored."""
    origin = plugins.origin_of(type(settings))
    return "" if origin is None else f"plugin={origin.text}"
