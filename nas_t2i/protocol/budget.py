"""Budget: everything that is held fixed while architectures vary. A value with a stable id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas_t2i.arch.spec import ProxyRule
from nas_t2i.yaml_files import load_document, parse_model

# Sequences come from YAML as lists; everything else is held to its exact type.
Steps = Annotated[tuple[int, ...], Field(strict=False)]
Shares = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)
]
Betas = Annotated[tuple[float, float], Field(strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ShapesData(_Part):
    """The embedded data set: pictures of coloured shapes with captions (nas_t2i.data.shapes)."""

    source: Literal["shapes"]
    scenes: int = Field(ge=1, description="training scenes")
    two_objects: float = Field(ge=0, le=1, description="share of scenes with two single objects")
    two_groups: float = Field(ge=0, le=1, description="share of scenes with a single and a pair")
    curriculum: float = Field(
        ge=0, le=1, description="share of the steps over which scenes open from easy to all"
    )


class ShapesText(_Part):
    """The embedded text encoder: trained once on captions, frozen, cached."""

    encoder: Literal["shapes"]
    width: int = Field(ge=8, description="features per token")
    steps: int = Field(ge=1, description="training steps of the encoder")
    seed: int = Field(ge=0, description="seed of the encoder; one encoder for all trials")


class PixelUnshuffle(_Part):
    """Lossless latents: factor x factor pixels become channels."""

    codec: Literal["pixel_unshuffle"]
    factor: int = Field(ge=1, description="down-sampling per side")
    scale: float = Field(gt=0, description="latent units per 127.5 grey levels")


class Objective(_Part):
    """The diffusion objective on LDM's schedule (1000 steps, scaled-linear 0.00085..0.012)."""

    prediction: Literal["epsilon", "v", "sample"]
    weighting: Literal["uniform", "min_snr", "min_snr_plus_one"]
    snr_clip: float = Field(gt=0, description="clip of the min-SNR weight (Hang et al. 2023)")
    caption_drop: float = Field(ge=0, lt=1, description="share of captions replaced by the null")


class Optimizer(_Part):
    """AdamW and its learning rate: linear warm-up, constant, optional linear decay to zero."""

    learning_rate: float = Field(gt=0)
    betas: Betas
    weight_decay: float = Field(ge=0)
    eps: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay_share: float = Field(ge=0, le=1, description="last share of the steps with linear decay")
    grad_clip: float = Field(ge=0, description="global gradient norm; 0: no clipping")


class Training(_Part):
    """One trial's training run."""

    steps: int = Field(ge=1, description="optimiser steps of a full trial")
    batch: int = Field(ge=1, description="global batch, images per optimiser step")
    optimizer: Optimizer
    ema_decay: float = Field(ge=0, lt=1, description="0: evaluate the raw weights")
    device: Literal["cpu"]
    precision: Literal["fp32"]
    zero_stage: Literal[0] = Field(description="DeepSpeed's ZeRO stage")
    threads: int = Field(
        ge=1, description="CPU threads per trial; part of the id: sums depend on it"
    )


class Sampler(_Part):
    """How a checkpoint draws pictures for evaluation: DDIM, eta 0."""

    steps: int = Field(ge=1, le=1000, description="DDIM steps")
    guidance: float = Field(ge=0, description="classifier-free guidance scale; 1: none")
    batch: int = Field(ge=1, description="pictures per batch; changes speed, not results")


class Evaluation(_Part):
    """What is measured at every rung."""

    metric: Literal["tifa"]
    vqa: Literal["shapes"]
    prompts: int = Field(ge=2, description="evaluation prompts, the same for every trial")
    seed: int = Field(ge=0, description="seed of prompts and of each prompt's starting noise")
    sampler: Sampler


class EarlyStopping(_Part):
    """Stop a trial at a rung when it is out of the best share, and provably so.

    A trial goes on when it is among the best ``ceil(share * n)`` of the n trials seen at the rung
    so far, or its paired difference to the last kept one is within `margin` standard errors.
    """

    keep: Shares = Field(description="share that goes on, for each rung but the last")
    margin: float = Field(ge=0, description="standard errors of the paired difference over prompts")
    min_peers: int = Field(ge=1, description="nobody stops before this many trials saw the rung")


class SearchPlan(_Part):
    """How candidates are chosen. Not part of the id: it changes who is tried, not any score."""

    trials: int = Field(ge=1, description="distinct architectures to try, included ones first")
    seeds_per_architecture: int = Field(
        ge=1, description="trials per architecture; scores are means"
    )
    parallel: int = Field(ge=0, description="trials side by side; 0: one per `threads` cores")
    sampler: Literal["tpe", "random", "gp", "qmc"]
    sampler_options: dict[str, Any] = Field(description="keyword arguments of Optuna's sampler")
    early_stopping: EarlyStopping | None = Field(description="null: every trial runs to the end")
    stall_minutes: float = Field(gt=0, description="a trial silent for so long is killed")


class Budget(_Part):
    """A budget file (budgets/*.yaml)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: ShapesData
    text: ShapesText
    latents: PixelUnshuffle
    proxy: ProxyRule | None = Field(description="the narrower stand-in; null: train the full one")
    objective: Objective
    training: Training
    evaluation: Evaluation
    rungs: Steps = Field(min_length=1, description="steps at which a trial is evaluated")
    search: SearchPlan

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
    def _one_share_a_rung(self) -> Self:
        stopping = self.search.early_stopping
        if stopping and len(self.rungs) > 1 and len(stopping.keep) != len(self.rungs) - 1:
            raise ValueError(
                f"search.early_stopping.keep: got {len(stopping.keep)} shares; expected "
                f"{len(self.rungs) - 1}, one for each rung but the last"
            )
        return self

    @property
    def budget_id(self) -> str:
        """A stable id of all that decides a score: everything but the name and the search plan."""
        fixed = self.model_dump(mode="json", exclude={"name", "search"})
        # The picture batch decides speed alone.
        del fixed["evaluation"]["sampler"]["batch"]
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return f"budget-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def load_budget(path: str | Path) -> Budget:
    """Read a budget file. Raises ConfigError with file, line, column and key path."""
    return parse_model(load_document(path), Budget)
