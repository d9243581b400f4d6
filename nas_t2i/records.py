"""What a trial leaves behind: versioned, plain JSON, readable without torch."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from nas_t2i.plugins import Origin
from nas_t2i.untrusted.redact import redacted, redacted_data

RECORD_VERSION = 1


class TrialState(StrEnum):
    """Where a trial stands, or how it ended."""

    RUNNING = "running"
    COMPLETE = "complete"  # reached the last rung
    STOPPED = "stopped"  # stopped early at a rung
    DIVERGED = "diverged"  # non-finite loss or gradient
    FAILED = "failed"  # died: out of memory, killed, an exception
    INTERRUPTED = "interrupted"  # the driver went away; a resumed search continues it


class _Record(BaseModel):
    # A diverged trial has a loss that is no number: written as "NaN", so that every line stays
    # strict JSON, and read back as the number it was.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class _CompactArray(array):  # type: ignore[type-arg]
    """Floats at 8 bytes each instead of the 32 of a list's; equal to any list of the same."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, array) else other)


class _Compact:
    """Validates and writes a list of floats, and keeps it in a `_CompactArray`."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        numbers = handler.generate_schema(list[float])
        return core_schema.no_info_after_validator_function(
            lambda values: _CompactArray("d", values),
            numbers,
            serialization=core_schema.plain_serializer_function_ser_schema(
                list, return_schema=numbers
            ),
        )


# Ten thousand trials on record have millions of them.
Numbers = Annotated[Sequence[float], _Compact()]


class LevelProfile(_Record):
    """The share of one level (by down-sampling rate; "mid" and "outside" are levels too)."""

    level: str
    params: int
    gmacs: float
    attention_gmacs: float


class Profile(_Record):
    """Size and compute of one denoising forward pass at batch 1.

    GMACs are 1e9 multiply-adds. ``*_paper`` count as fvcore does out of the box, which leaves out
    the two matrix products inside scaled-dot-product attention; the others count everything.
    Attention is the whole transformer block (projections, self- and cross-attention, feed-forward).
    """

    name: str
    arch_id: str
    family: str
    params: int
    gmacs: float
    gmacs_paper: float
    attention_gmacs: float
    attention_gmacs_paper: float
    attention_gmacs_paper_no_mid: float
    attention_share: float = Field(description="attention_gmacs / gmacs, 0 to 1")
    uncounted_ops: dict[str, int] = Field(description="operators without a count: name -> calls")
    latent_size: int = Field(description="side of the square latent, in latent pixels")
    text_tokens: int = Field(description="text tokens of the forward pass")
    levels: list[LevelProfile] = Field(default_factory=list)


class Latency(_Record):
    """Seconds of one forward pass without gradients, and what they hold for."""

    median_s: float
    first_quartile_s: float
    third_quartile_s: float
    repeats: int
    batch: int
    latent_size: int
    text_tokens: int
    dtype: Literal["fp32", "bf16", "fp16"]
    compiled: bool
    hardware: str = Field(description="the accelerator by its name, or the CPU by its own")
    threads: int = Field(description="of the CPU; 0 on an accelerator")
    torch: str

    @property
    def conditions(self) -> dict[str, Any]:
        """What must be equal for two latencies to compare."""
        return self.model_dump(exclude=MEASURED)


MEASURED = {"median_s", "first_quartile_s", "third_quartile_s", "repeats"}


class Score(_Record):
    """One metric of one checkpoint, with its uncertainty over prompts."""

    metric: str
    value: float
    stderr: float = Field(description="standard error of the mean over prompts")
    n: int = Field(description="prompts scored")
    n_missing: int = 0
    chance: float | None = Field(default=None, description="value of uninformed answers")
    by_type: dict[str, float] = Field(default_factory=dict, description="accuracy by element type")
    signature: str = Field(description="what must be equal for two scores to be comparable")
    better: Literal["larger", "smaller"] = Field(
        # An older release did not say it of a FID.
        default_factory=lambda score: "smaller" if score.get("metric") == "fid" else "larger",
        description="which values are",
    )
    per_prompt: Numbers = Field(default_factory=list, description="one score a prompt, in order")

    def is_of(self, part: str) -> bool:
        """Whether `part` is one of the parts, between bars, of the signature."""
        return part in self.signature.split("|")


class Estimate(_Record):
    """A number and its standard error over pairs; None: fewer than two pairs."""

    value: float
    stderr: float | None


class Signal(_Record):
    """A smooth quantity of one checkpoint on held-out pairs (nas_t2i.evaluation.signals).

    Gains are in nats; the held-out loss is in the unit of the training loss, smaller is better.
    """

    name: Literal["heldout_loss", "text_gain", "caption_gain"]
    value: float
    stderr: float = Field(description="standard error over pairs")
    n: int = Field(description="held-out pairs")
    by_noise: dict[str, Estimate] = Field(
        default_factory=dict, description="the same over the time steps FIRST-LAST"
    )
    signature: str = Field(description="what must be equal for two signals to be comparable")
    per_pair: Numbers = Field(
        default_factory=list,
        description="what each pair contributes, in order: their mean is the value",
    )


class TrainingSet(_Record):
    """How much there is to train on; pairs that are held out are not in it.

    An image-noun pair is an image and a noun that one of its captions has, counted once, however
    many of its captions have it. Two images that look the same are two.
    """

    images: int
    captions: int = Field(description="pairs of an image and a caption that it may be drawn with")
    image_noun_pairs: int | None = Field(default=None, description="null: nouns are not counted")
    nouns_by: str = Field(
        default="", description="what tells nouns: 'construction' of embedded captions, or a tagger"
    )


class CurvePoint(_Record):
    """One point of a learning curve, at a rung."""

    step: int
    images: int = Field(description="training images seen")
    training_flops: float = Field(description="3 x forward MACs x 2 x batch x steps, trained model")
    loss: float = Field(description="mean training loss since the last point")
    seconds: float = Field(description="training time so far, evaluation and start excluded")
    evaluation_seconds: float = Field(description="evaluation time so far")
    image_noun_pairs_seen: int | None = Field(
        default=None,
        description="those of the training set whose image was trained on at least once",
    )
    scores: dict[str, Score] = Field(
        default_factory=dict,
        description="by metric: first the one that is ranked by, then the budget's additional "
        "ones; none at a rung with signals alone",
    )
    signals: dict[str, Signal] = Field(
        default_factory=dict, description="by name; none where they were not measured"
    )


class Environment(_Record):
    """Where and with what a trial ran."""

    nas_t2i: str
    git_revision: str
    python: str
    platform: str
    cpu: str
    cores: int
    threads: int
    accelerator: str
    versions: dict[str, str]


class Reused(_Record):
    """Where a trial was trained that its study did not train itself."""

    study: str
    path: str = Field(description="of its folder, from the folder that holds the studies")
    git_revision: str = Field(description="of the nas-t2i that trained it")


class TrialRecord(_Record):
    """Everything known of one trial: key (arch_id, budget_id, seed)."""

    version: int = RECORD_VERSION
    study: str
    number: int
    name: str
    arch: dict[str, Any] = Field(description="canonical form of the full architecture")
    arch_id: str
    family: str
    trained_arch: dict[str, Any] = Field(description="canonical form of what was trained")
    profile: Profile = Field(description="of the full architecture")
    trained_profile: Profile = Field(description="of what was trained (the proxy)")
    budget_id: str
    seed: int
    control: str = Field(default="", description="'' or the control this trial is")
    state: TrialState
    reason: str = ""
    fault: str = Field(default="", description="of a failed one: as in its end event")
    attempt: int = Field(default=1, description="1, and 1 more for every attempt that failed")
    last_failure: str = Field(default="", description="why the attempt before this one failed")
    steps_done: int = Field(default=0, description="training steps taken, at a rung or between two")
    curve: list[CurvePoint] = Field(default_factory=list)
    environment: Environment | None = None
    inputs: dict[str, str] = Field(
        default_factory=dict, description="fingerprints of data, text encoder and latent codec"
    )
    training_set: TrainingSet | None = Field(default=None, description="null: not recorded")
    micro_batch: int | None = Field(
        default=None, description="images of one rank's forward pass; null: not recorded"
    )
    plugins: list[Origin] = Field(default_factory=list, description="code from outside nas-t2i")
    latency: Latency | None = Field(
        default=None, exclude_if=lambda one: one is None, description="of the full architecture"
    )
    reused: Reused | None = Field(
        default=None,
        exclude_if=lambda origin: origin is None,
        description="not trained in this study but there, with that environment and those seconds",
    )


class StartEvent(_Record):
    """A trial starts, or starts again after an interruption."""

    event: Literal["start"] = "start"
    record: TrialRecord = Field(description="without its curve, in state running")
    pid: int = Field(default=0, description="process of the trial's first rank")


class ProgressEvent(_Record):
    """A sign of life between two rungs."""

    event: Literal["progress"] = "progress"
    step: int
    loss: float = Field(description="mean training loss since the last report")
    seconds: float = Field(description="training time so far, evaluation and start excluded")


class RungEvent(_Record):
    """A trial was evaluated at a rung."""

    event: Literal["rung"] = "rung"
    point: CurvePoint


class EndEvent(_Record):
    """The end event of a trial, its own or the driver's: how it ended and why."""

    event: Literal["end"] = "end"
    state: TrialState
    reason: str = ""
    fault: str = Field(
        default="",
        description="what was at fault, if known: killed, lost, disk, memory or device",
    )

    @field_validator("reason", mode="before")
    @classmethod
    def _writable(cls, reason: object) -> object:
        # The output of a dying process may hold anything; it must not keep its end off the record.
        if isinstance(reason, str):
            return redacted(reason.encode("utf-8", "replace").decode("utf-8"))
        return reason

    @field_validator("state")
    @classmethod
    def _ended(cls, state: TrialState) -> TrialState:
        if state is TrialState.RUNNING:
            raise ValueError("a trial can't end in the state 'running'")
        return state


TrialEvent = StartEvent | ProgressEvent | RungEvent | EndEvent


class SpaceUsed(_Record):
    """The search space of a study, as it was when the study began."""

    name: str
    space_id: str
    data: dict[str, Any] = Field(description="the validated file")

    @field_validator("data")
    @classmethod
    def _without_secrets(cls, data: dict[str, Any]) -> dict[str, Any]:
        return redacted_data(data)  # type: ignore[no-any-return]


class BudgetUsed(_Record):
    """The budget of a study, as it was when the study began."""

    name: str = ""
    budget_id: str
    data: dict[str, Any] = Field(description="the validated file, without secrets")

    @field_validator("data")
    @classmethod
    def _without_secrets(cls, data: dict[str, Any]) -> dict[str, Any]:
        return redacted_data(data)  # type: ignore[no-any-return]


class StudyRecord(_Record):
    """What all trials of a study share; written once, when the study is made."""

    version: int = RECORD_VERSION
    study: str
    space: SpaceUsed
    budget: BudgetUsed
    budget_id: str
    seed: int
    storage: str = Field(description="Optuna storage without a password; paths from the folder")
    created: AwareDatetime = Field(description="UTC")
    environment: Environment
    seeds_per_arch: int
    rungs: list[int] = Field(
        description="training steps at which a trial is measured, those with signals alone too"
    )
    metric: str = Field(description="the score that is ranked by, at the last rung")
    chance: float | None = Field(default=None, description="the metric for uninformed answers")
    warm_start: str = Field(
        default="",
        exclude_if=lambda name: not name,
        description="the study whose measurements its sampler began with",
    )
    stop_rule: str = Field(default="", description="how trials are stopped early, in words")
    note: str = Field(default="", description="what was trained and what is shown, in words")
    plugins: list[Origin] = Field(default_factory=list, description="code from outside nas-t2i")

    @field_validator("storage", mode="after")
    @classmethod
    def _without_password(cls, storage: str) -> str:
        return redacted(storage)

    @model_validator(mode="after")
    def _one_budget(self) -> StudyRecord:
        if self.budget_id != self.budget.budget_id:
            ids = f"{self.budget_id!r} and {self.budget.budget_id!r}"
            raise ValueError(f"budget_id and budget.budget_id differ: {ids}")
        return self
