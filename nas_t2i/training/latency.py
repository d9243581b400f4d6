"""How long a denoising forward pass takes on the hardware at hand."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from nas_t2i.arch.spec import Arch
from nas_t2i.environment import cpu_name
from nas_t2i.errors import UserError
from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.records import Latency
from nas_t2i.training.speed import run_seconds

Dtype = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST_PASSES = 5  # fewer have no quartiles worth the name
_STEP = 500  # of 1000; which one does not matter to time


def measure_latency(
    arch: Arch,
    *,
    latent_size: int,
    text_tokens: int,
    batch: int = 1,
    device: str = "cpu",
    dtype: Dtype = "fp32",
    compiled: bool = False,
    seconds: float = 2.0,
    name: str = "",
    what: str = "--latency of ",
    instead: str = "a smaller --batch, bf16, or another --device",
) -> Latency:
    """Time passes of the full architecture, its weights drawn at random, for about so long.

    `name`, `what` was asked for and what may be tried `instead` are for messages.

    Raises:
        ArchError: latents of that side do not fit the architecture.
        UserError: the model does not fit into memory.
    """
    plain, kind = arch.canonical(), _DTYPES[dtype]
    try:
        # Not diffusers' own `to`, which warns of a change of type.
        model = torch.nn.Module.to(arch.build(latent_size), device, kind).eval()
        shape = (batch, plain["latent_channels"], latent_size, latent_size)
        latents = torch.randn(shape).to(device, kind)
        text = torch.randn(batch, text_tokens, plain["text_dim"]).to(device, kind)
        step = torch.full((batch,), _STEP, device=device)
        if compiled:
            model.compile()
        with torch.inference_mode():
            times = run_seconds(
                lambda: arch.call(model, latents, step, text), least=_LEAST_PASSES, seconds=seconds
            )
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and (
            "can't allocate memory" not in str(error)
        ):
            raise
        raise UserError(
            f"{what}{name or arch.label()}: does not fit into the memory of {device} at batch "
            f"{batch} in {dtype}; try {instead}"
        ) from None
    first, median, third = np.quantile(times, [0.25, 0.5, 0.75])
    return Latency(
        median_s=float(median),
        first_quartile_s=float(first),
        third_quartile_s=float(third),
        repeats=len(times),
        batch=batch,
        latent_size=latent_size,
        text_tokens=text_tokens,
        dtype=dtype,
        compiled=compiled,
        hardware=hardware_of(device),
        threads=torch.get_num_threads() if torch.device(device).type == "cpu" else 0,
        torch=torch.__version__,
    )


def conditions_of(settings: LatencySettings) -> dict[str, Any]:
    """Return what latencies measured here would hold for, as `Latency.conditions` of them.

    `settings` leave nothing out, and their device is there.
    """
    device = settings.device or "cpu"
    return {
        "batch": settings.batch,
        "latent_size": settings.latent_size,
        "text_tokens": settings.text_tokens,
        "dtype": settings.dtype,
        "compiled": settings.compile,
        "hardware": hardware_of(device),
        "threads": settings.threads if torch.device(device).type == "cpu" else 0,
        "torch": torch.__version__,
    }


def hardware_of(device: str) -> str:
    """Return the name of what passes run on: an accelerator's, or the CPU's."""
    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return cpu_name()
