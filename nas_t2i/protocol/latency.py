"""What latencies of a search are measured under."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nas_t2i.protocol.part import Part
from nas_t2i.protocol.training import Training


class LatencySettings(Part):
    """One forward pass of the full architecture, as it is timed before anything is trained."""

    device: str | None = Field(
        default=None,
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="of the machine that searches: cpu, cuda or cuda:N; left out: training.device",
    )
    dtype: Literal["fp32", "bf16", "fp16"] | None = Field(
        default=None, description="of weights and latents; left out: training.precision"
    )
    threads: int | None = Field(
        default=None, ge=1, description="of the CPU; left out: training.threads"
    )
    batch: int = Field(default=1, ge=1, description="latents of a pass")
    latent_size: int = Field(
        default=32, ge=1, description="side of the square latent, as of the limits on GMACs"
    )
    text_tokens: int = Field(default=77, ge=1, description="as of the limits on GMACs")
    compile: bool = Field(default=False, description="torch.compile the model")
    seconds: float = Field(
        default=2.0, gt=0, description="passes are repeated for so long, at least five"
    )

    def filled(self, training: Training) -> LatencySettings:
        """Return the settings with what was left out as an architecture is trained."""
        return self.model_copy(
            update={
                "device": self.device or training.device,
                "dtype": self.dtype or training.precision,
                "threads": self.threads or training.threads,
            }
        )
