"""What trials are scored by: the metric they are ranked by, and others beside it.

The classes here are what a budget knows of a metric. `nas_t2i.evaluation.metric` adds what a metric
does, and is what a plug-in of the kind ``metrics`` derives from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.protocol.part import Named, Part

Better = Literal["larger", "smaller"]


class Sampler(Part):
    """How a checkpoint draws images for evaluation: DDIM, eta 0."""

    steps: int = Field(ge=1, le=1000, description="DDIM steps")
    guidance: float = Field(ge=0, description="classifier-free guidance scale; 1: none")
    batch: int = Field(ge=1, description="images per batch; changes speed, not results")

    @property
    def passes(self) -> int:
        """Forward passes an image: two a step with guidance."""
        return self.steps * (1 if self.guidance == 1 else 2)


class MetricSettings(Part):
    """A metric of drawn images, on record beside the one that is ranked by."""

    DISPLAY_NAME: ClassVar[str]  # in tables and figures
    BETTER: ClassVar[Better] = "larger"
    EXAMPLE: ClassVar[Mapping[str, Any]] = {}  # settings to check its contract with

    metric: str
    at: Literal["every_rung", "last_rung"] = Field(
        default="last_rung", description="where it is measured"
    )

    @property
    def draws_its_own(self) -> bool:
        """Whether it has prompts of its own drawn, and does not score what is there."""
        return False


class EvaluationSettings(Part):
    """How trials are scored at the rungs: the metric that is ranked by."""

    DISPLAY_NAME: ClassVar[str]
    BETTER: ClassVar[Better] = "larger"

    metric: str
    prompts: int = Field(ge=2, description="evaluation prompts, the same for every trial")
    seed: int = Field(ge=0, description="seed of prompts and of each prompt's starting noise")
    sampler: Sampler
    metrics: Annotated[
        tuple[Annotated[MetricSettings, Named("metrics", "metric", role="BESIDE")], ...],
        Field(strict=False),
    ] = Field(
        default=(),
        description="additional metrics of drawn images, on record beside the one ranked by",
    )

    @property
    def images(self) -> int:
        """How many images are drawn at a rung for additional metrics to score."""
        return self.prompts

    @property
    def forward_passes(self) -> int:
        """How many images a model's forward passes see at a rung, for estimates of time."""
        return self.images * self.sampler.passes

    def check_data(self, data: ShapesData | PairsData) -> None:
        """Raise ValueError, ``key: got X; expected Y``, where it can't be measured on such data."""
