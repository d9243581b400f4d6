"""Budget: everything that is held fixed while architectures vary. A value with a stable id."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from nas_t2i.arch.spec import ProxyRule
from nas_t2i.errors import RecordError
from nas_t2i.protocol.conditioning import CodecSettings, TextEncoderSettings
from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.protocol.evaluation import EvaluationSettings
from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.protocol.objectives import ObjectiveOf, read_objectives
from nas_t2i.protocol.part import Named, Part
from nas_t2i.protocol.rungs import Rungs, RungsForm, ladder
from nas_t2i.protocol.search import RacingRule, SearchPlan
from nas_t2i.protocol.signals import SignalSettings
from nas_t2i.protocol.training import Execution, Objective, Training
from nas_t2i.yaml_files import Document, config_error, load_document, parse_model


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
    proxy: ProxyRule | None = Field(
        description="the narrower model that is trained; null: train the full one"
    )
    objective: Objective
    training: Training
    evaluation: Annotated[EvaluationSettings, Named("metrics", "metric", role="RANKED")]
    rungs: Annotated[Rungs, RungsForm()] = Field(
        default_factory=Rungs,
        description="steps at which a trial is measured: a list, or by kind; left out: six, "
        "geometric, from 5 % of the steps on, the last two of them full",
    )
    signals: SignalSettings | None = Field(
        default_factory=SignalSettings,
        description="what is measured on held-out pairs at every rung; null: nothing",
    )
    search: SearchPlan
    execution: Execution = Field(default_factory=Execution)

    @model_validator(mode="before")
    @classmethod
    def _rungs_may_be_left_out(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "rungs" in data:
            return data
        training = data.get("training")
        steps = training.get("steps") if isinstance(training, dict) else None
        # Steps that are no number of steps are told of by their own key.
        return {**data, "rungs": ladder(steps if isinstance(steps, int) and steps > 0 else 1)}

    @model_validator(mode="after")
    def _rungs_ascend_to_the_end(self) -> Self:
        full, cheap, last = self.full_rungs, self.rungs.cheap, self.training.steps
        if not _ascending(full) or full[-1] != last:
            kind = "the full steps " if cheap else ""
            raise ValueError(
                f"rungs: got {kind}{list(full)}; expected ascending steps that end at "
                f"training.steps ({last})"
            )
        if cheap and (not _ascending(cheap) or cheap[-1] > last):
            raise ValueError(
                f"rungs: got signals at the steps {list(cheap)}; expected ascending steps below "
                f"training.steps ({last})"
            )
        return self

    @model_validator(mode="after")
    def _stopping_fits_the_rungs(self) -> Self:
        rule = self.search.early_stopping
        if rule is not None:
            rule.check(self.decided_rungs)
            if rule.judges_by() and not self.signal_pairs:
                raise ValueError(
                    f"search.early_stopping: got the signal {rule.judges_by()!r}, but no signals "
                    "are measured; expected signals and data.held_out, or no signal"
                )
        if isinstance(rule, RacingRule):
            rule.check_plan(self.rungs, self.search.trials)
        self.check_objectives()
        return self

    def check_objectives(self) -> None:
        """Raise ValueError where what is sought, the sampler and the stopping rule don't fit."""
        plan, sought = self.search, self.objectives
        rule = plan.early_stopping
        if not sought:
            if plan.sampler in ("nsga3", "front"):
                raise ValueError(
                    f"search.sampler: got {plan.sampler!r}, which is for several objectives; "
                    "expected search.objectives beside it, or another sampler"
                )
            return
        measured = [objective.name for objective in sought if not objective.exact]
        if plan.sampler == "front" and len(measured) != 1:
            raise ValueError(
                f"search.sampler: got 'front' for {', '.join(plan.objectives)}; expected one "
                f"measured objective and exact ones, as {self.evaluation.metric}, -gmacs, or "
                "another sampler"
            )
        if rule is not None and not (isinstance(rule, RacingRule) and rule.FRONTS):
            raise ValueError(
                f"search.objectives: got {', '.join(plan.objectives)} with early_stopping "
                f"{rule.rule!r}, which judges by the score alone; expected rule race, or null"
            )
        if rule is not None and self.evaluation.metric not in measured:
            raise ValueError(
                f"search.objectives: got {', '.join(plan.objectives)} in a race, which brings the "
                f"best by {self.evaluation.metric} to the end; expected it among them, or "
                "early_stopping: null"
            )

    @property
    def objectives(self) -> tuple[ObjectiveOf, ...]:
        """What is sought at once; nothing where it is the ranked metric alone."""
        if not self.search.objectives:
            return ()
        return read_objectives(
            self.search.objectives, self.evaluation, signals=bool(self.signal_pairs)
        )

    @property
    def latency(self) -> LatencySettings | None:
        """How latencies are measured; None: what is sought needs none."""
        asked = self.search.latency
        if asked is None and all(one.name != "latency" for one in self.objectives):
            return None
        return (asked or LatencySettings()).filled(self.training)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        training, execution = self.training, self.execution
        if training.batch % execution.ranks:
            raise ValueError(
                f"training: got a batch of {training.batch} for {execution.ranks} ranks; expected "
                "a multiple of execution.ranks"
            )
        if execution.trials_per_device > 1 and (
            training.device == "cpu" or execution.ranks > 1 or execution.hostfile
        ):
            raise ValueError(
                f"execution: got trials_per_device {execution.trials_per_device}; expected 1, or "
                "trials of one rank on CUDA devices of this machine"
            )
        if execution.compile == "reduce-overhead" and training.zero_stage:
            raise ValueError(
                f"execution: got compile 'reduce-overhead' with ZeRO stage {training.zero_stage}; "
                "expected training.zero_stage 0, or compile true: ZeRO moves gradients and weights "
                "that CUDA graphs expect in their place"
            )
        if execution.compile == "regional" and training.zero_stage == 3:
            raise ValueError(
                "execution: got compile 'regional' with ZeRO stage 3; expected training.zero_stage "
                "0 to 2, or compile true"
            )
        if execution.cuda_graphs and (training.zero_stage or training.device == "cpu"):
            got = f"ZeRO stage {training.zero_stage} on the device {training.device}"
            raise ValueError(
                f"execution: got cuda_graphs with {got}; expected training.zero_stage 0 and "
                "training.device cuda"
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
        self.text.check_data(self.data)
        self.evaluation.check_data(self.data)
        self._check_held_out()
        self._check_additional_metrics()
        unknown = set(execution.offload) - {"optimizer", "param"}
        if unknown:
            raise ValueError(
                f"execution: got offload of {sorted(unknown)}; expected 'optimizer' or 'param'"
            )
        return self

    def _check_held_out(self) -> None:
        data, metric = self.data, self.evaluation.metric
        if isinstance(data, PairsData) and data.held_out and self._metric_holds_out:
            raise ValueError(
                f"data: got held_out {data.held_out} with the metric {metric!r}, which holds out "
                f"evaluation.prompts ({self.evaluation.prompts}) itself; expected it left out"
            )
        if self.rungs.cheap and not self.signal_pairs:
            what = "signals: null" if self.signals is None else "no pairs that are held out"
            raise ValueError(
                f"rungs: got signals alone at {list(self.rungs.cheap)}, but {what}; expected "
                "data.held_out, or all rungs as a list"
            )

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
    def full_rungs(self) -> tuple[int, ...]:
        """The rungs at which the ranked metric is measured, ascending; `rungs` are all."""
        return self.rungs.full if isinstance(self.rungs, Rungs) else self.rungs

    @property
    def decided_rungs(self) -> tuple[int, ...]:
        """The rungs that a stopping rule is asked at, and the last one, ascending."""
        rule = self.search.early_stopping
        if rule is not None and rule.judges_by():
            return tuple(self.rungs)
        return self.full_rungs

    @property
    def held_out(self) -> int:
        """How many pairs no trial trains on: of users' pairs as declared, of shapes as needed."""
        if self._metric_holds_out:
            return self.evaluation.prompts
        if isinstance(self.data, PairsData):
            return self.data.held_out
        return 0 if self.signals is None else self.signals.pairs

    @property
    def signal_pairs(self) -> int:
        """How many pairs the signals are measured on; 0: they are not measured."""
        return 0 if self.signals is None else min(self.signals.pairs, self.held_out)

    @property
    def _metric_holds_out(self) -> bool:
        return self.evaluation.metric == "heldout_r2"

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


def _ascending(steps: tuple[int, ...]) -> bool:
    return steps[0] >= 1 and all(a < b for a, b in pairwise(steps))


def load_budget(path: str | Path) -> Budget:
    """Read a budget file. Raises ConfigError with file, line, column and key path."""
    return parse_model(load_document(path), Budget)


def recorded_budget(data: dict[str, Any], file: Path) -> Budget:
    """Return the budget that a trial's config.json, `file`, holds.

    Raises:
        RecordError: it is none, with the key path.
    """
    try:
        return Budget.model_validate(data, strict=False)
    except ValidationError as error:
        report = config_error(Document(f"{file}: budget", data, {}), Budget, error)
        raise RecordError(str(report).replace(": budget:1:1:", ": budget:", 1)) from None
