"""What a trial leaves behind: versioned, plain JSON, readable without torch."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

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
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    per_prompt: list[float] = Field(
        default_factory=list, description="one score a prompt, in order"
    )


class CurvePoint(_Record):
    """One point of a learning curve, at a rung."""

    step: int
    images: int = Field(description="training images seen")
    training_flops: float = Field(description="3 x forward MACs x 2 x batch x steps, trained model")
    loss: float = Field(description="mean training loss since the last point")
    seconds: float = Field(description="training time so far, evaluation and start excluded")
    evaluation_seconds: float = Field(description="evaluation time so far")
    scores: dict[str, Score] = Field(default_factory=dict)


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
    curve: list[CurvePoint] = Field(default_factory=list)
    environment: Environment | None = None
