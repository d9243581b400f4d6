"""Budget: everything that is held fixed while architectures vary. A value with a stable id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from nas_t2i.arch.spec import ProxyRule
from nas_t2i.protocol.conditioning import CodecSettings, TextEncoderSettings
from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.protocol.evaluation import EvaluationSettings
from nas_t2i.protocol.part import Named, Part, Steps
from nas_t2i.protocol.search import SearchPlan
from nas_t2i.protocol.training import Execution, Objective, Training
from nas_t2i.yaml_files import load_document, parse_model


class Budget(Part):
    """A budget file (budgets/*.yaml)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: Annotated[ShapesData | PairsData, Field(discriminator="source")]
    text: Annotated[TextEncoderSettings, Named("text_encoders", "encoder")]
    latents: Annotated[CodecSettings, Named("codecs", "codec")]
    init_from: str | None = Field(
        default=None,
        description="weights to go on from: a study (same architecture and seed), a trial, "
        "or a diffusers folder; null: random",
    )
    proxy: ProxyRule | None = Field(description="the narrower stand-in; null: train the full one")
    objective: Objective
    training: Training
    evaluation: Annotated[EvaluationSettings, Named("metrics", "metric", role="RANKED")]
    rungs: Steps = Field(min_length=1, description="steps at which a trial is evaluated")
    search: SearchPlan
    execution: Execution = Field(default_factory=Execution)

    @model_validator(mode="after")
    def _rungs_ascend_to_the_end(self) -> Self:
        ascending = all(a < b for a, b in zip(self.rungs, self.rungs[1:], strict=False))
        if not ascending or self.rungs[0] < 1 or self.rungs[-1] != self.training.steps:
            raise ValueError(
                f"rungs: got {list(self.rungs)}; expected ascending steps that end at "
                f"training.steps ({self.training.steps})"
            )
        return self

    @model_validator(mode="after")
    def _stopping_fits_the_rungs(self) -> Self:
        if self.search.early_stopping is not None:
            self.search.early_stopping.check(self.rungs)
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        training, execution = self.training, self.execution
        if training.batch % execution.ranks:
            raise ValueError(
                f"training: got a batch of {training.batch} for {execution.ranks} ranks; expected "
                "a multiple of execution.ranks"
            )
        micro = execution.micro_batch
        if micro != "auto" and training.batch // execution.ranks % micro:
            raise ValueError(
                f"execution: got micro_batch {micro}; expected a divisor of "
                f"{training.batch // execution.ranks} (training.batch / ranks)"
            )
        own_captions = isinstance(self.data, PairsData) and any(
            not source.EMBEDDED for source in self.data.sources
        )
        if self.text.EMBEDDED and own_captions:
            raise ValueError(
                f"text: got the encoder {self.text.encoder!r}, which reads the embedded captions "
                "only; expected 'openclip' or 'transformers' for other data"
            )
        self.evaluation.check_data(self.data)
        self._check_additional_metrics()
        unknown = set(execution.offload) - {"optimizer", "param"}
        if unknown:
            raise ValueError(
                f"execution: got offload of {sorted(unknown)}; expected 'optimizer' or 'param'"
            )
        return self

    def _check_additional_metrics(self) -> None:
        evaluation = self.evaluation
        names = [metric.metric for metric in evaluation.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.metrics: got {', '.join(names)}; expected each once")
        if evaluation.metric in names:
            raise ValueError(
                f"evaluation.metrics: got {evaluation.metric}, which is the metric ranked by "
                "already"
            )
        drawn = [metric.metric for metric in evaluation.metrics if not metric.draws_its_own]
        if drawn and evaluation.images < 2:
            raise ValueError(
                f"evaluation.pictures: got {evaluation.images}; expected 2 or more for "
                f"{drawn[0]} to score"
            )

    @property
    def budget_id(self) -> str:
        """A stable id of all that decides a score: what is computed, not how fast or by whom.

        Left out are the name, the search plan and the execution. So is every optional key that
        has its default: a key added in a later release changes no older budget's id.
        """
        fixed = self.model_dump(
            mode="json", exclude={"name", "search", "execution"}, exclude_defaults=True
        )
        # The image batch decides speed alone; where the cache lies decides nothing.
        del fixed["evaluation"]["sampler"]["batch"]
        fixed["data"].pop("cache", None)
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return f"budget-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def load_budget(path: str | Path) -> Budget:
    """Read a budget file. Raises ConfigError with file, line, column and key path."""
    return parse_model(load_document(path), Budget)
