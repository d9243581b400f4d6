"""How a trial trains, and how it runs while it does."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nas_t2i.errors import did_you_mean
from nas_t2i.protocol.part import Part

Betas = Annotated[tuple[float, float], Field(strict=False)]


class Objective(Part):
    """The diffusion objective on LDM's schedule (1000 steps, scaled-linear 0.00085..0.012)."""

    prediction: Literal["epsilon", "v", "sample"]
    weighting: Literal["uniform", "min_snr", "min_snr_plus_one"]
    snr_clip: float = Field(gt=0, description="clip of the min-SNR weight (Hang et al. 2023)")
    caption_drop: float = Field(ge=0, lt=1, description="share of captions replaced by the null")


class Optimizer(Part):
    """AdamW and its learning rate: linear warm-up, constant, optional linear decay to zero."""

    learning_rate: float = Field(gt=0)
    betas: Betas
    weight_decay: float = Field(ge=0)
    eps: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay_share: float = Field(ge=0, le=1, description="last share of the steps with linear decay")
    grad_clip: float = Field(ge=0, description="global gradient norm; 0: no clipping")


class Training(Part):
    """One trial's training run."""

    steps: int = Field(ge=1, description="optimiser steps of a full trial")
    batch: int = Field(ge=1, description="global batch, images per optimiser step")
    optimizer: Optimizer
    ema_decay: float = Field(ge=0, lt=1, description="0: evaluate the raw weights")
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"] = Field(
        description="bf16: with fp32 master weights and fp32 gradient accumulation"
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(description="DeepSpeed's ZeRO stage")
    threads: int = Field(
        ge=1, description="CPU threads per trial; part of the id: sums depend on it"
    )


_RUNNER = re.compile(r"(local|ray(:[^\s]+)?)")


class Execution(Part):
    """How a trial runs: speed, memory and rounding, not what is computed. Not part of the id."""

    runner: str = Field(
        default="local",
        pattern=f"^{_RUNNER.pattern}$",
        description="what starts trials: local (this machine, or the hostfile's), ray or "
        "ray:HOST:PORT (a Ray cluster)",
    )
    ranks: int = Field(default=1, ge=1, description="processes (one a device) that train a trial")
    hostfile: str | None = Field(
        default=None, description="DeepSpeed hostfile of a trial's nodes; null: this machine"
    )
    include: str | None = Field(
        default=None, description="DeepSpeed's --include, for example node1:0,1@node2:0,1"
    )
    trials_per_device: int = Field(
        default=1, ge=1, description="CUDA trials of one rank that share a device: small proxies"
    )
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="images of one rank's forward pass; auto: as many as fit"
    )
    offload: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="'optimizer' and 'param': DeepSpeed's offload settings, passed through",
    )
    gradient_checkpointing: bool = False
    channels_last: bool = False
    compile: Literal[False, True, "regional", "reduce-overhead"] = Field(
        default=False,
        description="torch.compile the denoiser; regional: its repeated blocks alone, once for "
        "architectures of the same widths; reduce-overhead: in torch's mode of that name, "
        "which replays its kernels as CUDA graphs: small proxies on a GPU",
    )
    cuda_graphs: bool = Field(
        default=False,
        description="record a step's forward and backward pass once, uncompiled, and replay it: "
        "small proxies on a GPU, whose kernels take longer to launch than to compute",
    )
    warm_start: bool = Field(
        default=True,
        description="fork trials from a process that has imported what they need; only those of "
        "one rank and one thread on this machine",
    )
    workers: int = Field(default=2, ge=0, description="threads of a rank that read and decode")
    checkpoint_minutes: float = Field(
        default=10.0, gt=0, description="between two checkpoints; rungs are always saved"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="older ones are removed")

    @field_validator("runner", mode="before")
    @classmethod
    def _known_runner(cls, value: Any) -> Any:
        if isinstance(value, str) and not _RUNNER.fullmatch(value):
            near = did_you_mean(value.partition(":")[0], ("local", "ray"))
            expected = "local, ray or ray:HOST:PORT" + (f"; {near}" if near else "")
            raise ValueError(f"got {value!r}; expected {expected}")
        return value

    @model_validator(mode="after")
    def _graphs_are_recorded_of_plain_passes(self) -> Self:
        if self.cuda_graphs and (self.compile or self.gradient_checkpointing):
            other = "compile" if self.compile else "gradient_checkpointing"
            raise ValueError(
                f"execution: got cuda_graphs with {other}; expected one of them (compile: "
                "reduce-overhead both compiles and records)"
            )
        return self

    @model_validator(mode="after")
    def _a_cluster_has_its_own_hosts(self) -> Self:
        if self.runner != "local" and (self.hostfile or self.include):
            raise ValueError(
                f"execution: got the runner {self.runner!r} with a hostfile or include; expected "
                "neither: a Ray cluster knows its nodes"
            )
        return self
