"""Seconds and memory of profiling one backbone: nas-t2i beside fvcore, calflops and torchinfo.

    python benchmarks/profile_speed.py [--arch SDXL-C320] [--repeat 1]

Every tool runs in a fresh process on the same model at one 4x32x32 latent and 77 text tokens:
imports first (not timed), then building the model and counting. "weights" is the model as anyone
builds it, with weights in memory; "meta" is the same on torch's meta device, without (fvcore does
not run there). Peak memory is that of the whole process, imports included. calflops and torchinfo
are in the extra "bench"; a tool that is not installed is skipped and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

LATENT, TOKENS = 32, 77


def model_and_inputs(arch: Any, device: str) -> tuple[Any, dict[str, Any]]:
    """Build the model on a device, with inputs by keyword."""
    import torch

    with torch.device(device):
        model = arch.build(LATENT).eval()
        first = "hidden_states" if arch.FAMILY == "pixart" else "sample"
        inputs = {
            first: torch.zeros(1, arch.latent_channels, LATENT, LATENT),
            "timestep": torch.zeros(1),
            "encoder_hidden_states": torch.zeros(1, TOKENS, arch.text_dim),
        }
    return model, inputs


def with_nas_t2i(arch: Any, _device: str) -> tuple[float, float, float]:
    """Return (time when built, parameters, GMACs) as nas-t2i counts them."""
    from nas_t2i.arch.profile import profile

    result = profile(arch, latent_size=LATENT, text_tokens=TOKENS)
    # The call builds and counts: there is no time of its own for building.
    return time.perf_counter(), result.params, result.gmacs_paper


def with_fvcore(arch: Any, device: str) -> tuple[float, float, float]:
    """Return the same as fvcore counts."""
    import torch
    from fvcore.nn import FlopCountAnalysis

    model, inputs = model_and_inputs(arch, device)
    built = time.perf_counter()

    class Called(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            named = dict(zip(inputs, values, strict=True))
            output: torch.Tensor = self.model(**named, return_dict=False)[0]
            return output

    analysis = FlopCountAnalysis(Called(), tuple(inputs.values()))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return built, sum(p.numel() for p in model.parameters()), analysis.total() / 1e9


def with_calflops(arch: Any, device: str) -> tuple[float, float, float]:
    """Return the same as calflops counts: no norms, no products inside attention."""
    from calflops import calculate_flops

    model, inputs = model_and_inputs(arch, device)
    built = time.perf_counter()
    _, macs, params = calculate_flops(
        model, kwargs=inputs, print_results=False, output_as_string=False
    )
    return built, params, macs / 1e9


def with_torchinfo(arch: Any, device: str) -> tuple[float, float, float]:
    """Return the same as torchinfo counts: from the sizes of weights and outputs only."""
    from torchinfo import summary

    model, inputs = model_and_inputs(arch, device)
    built = time.perf_counter()
    result = summary(model, input_data=inputs, verbose=0, device=device)
    return built, result.total_params, result.total_mult_adds / 1e9


# Name -> (how to count, device, the module it needs).
TOOLS: dict[str, tuple[Callable[[Any, str], tuple[float, float, float]], str, str]] = {
    "nas-t2i": (with_nas_t2i, "meta", "nas_t2i"),
    "fvcore, weights": (with_fvcore, "cpu", "fvcore.nn"),
    "calflops, weights": (with_calflops, "cpu", "calflops"),
    "calflops, meta": (with_calflops, "meta", "calflops"),
    "torchinfo, weights": (with_torchinfo, "cpu", "torchinfo"),
    "torchinfo, meta": (with_torchinfo, "meta", "torchinfo"),
}


def measure(tool: str, name: str) -> dict[str, Any]:
    """Run one tool in this process."""
    import importlib
    import logging

    import diffusers
    import torch

    from nas_t2i.arch.profile import profile
    from nas_t2i.arch.resolve import resolve_arch

    count, device, module = TOOLS[tool]
    try:
        importlib.import_module(module)
    except ImportError as error:
        return {"missing": str(error)}
    logging.disable(logging.WARNING)
    arch = resolve_arch(name).arch
    getattr(diffusers, arch.diffusers_config(LATENT)[0])
    with torch.no_grad():
        start = time.perf_counter()
        built, params, gmacs = count(arch, device)
        end = time.perf_counter()
        row = {"build": built - start, "total": end - start, "params": params, "gmacs": gmacs}
        if tool == "nas-t2i":
            start = time.perf_counter()
            profile(arch, latent_size=LATENT, text_tokens=TOKENS)
            row["warm"] = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    row["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return row


def in_fresh_process(tool: str, name: str) -> dict[str, Any]:
    """Run one tool in a process of its own."""
    command = [sys.executable, __file__, "--arch", name, "--tool", tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"missing": reason[0]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    """Print seconds, peak memory, counts and ratios of all tools."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="SDXL-C320", help="what `nas-t2i profile --arch` takes")
    parser.add_argument("--repeat", type=int, default=1, help="runs a tool; the fastest counts")
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        print(json.dumps(measure(options.tool, options.arch)))
        return

    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=100)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    console.print(f"{options.arch} on {platform.machine()}, {cores} cores, load {load:.1f}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tool")
    for header in (
        "build\ns",
        "count\ns",
        "total\ns",
        "x\nnas-t2i",
        "peak\nGiB",
        "x\nnas-t2i",
        "params\nB",
        "GMACs",
    ):
        table.add_column(header, justify="right")
    ours: dict[str, Any] = {}
    for tool in TOOLS:
        rows = [in_fresh_process(tool, options.arch) for _ in range(options.repeat)]
        if "missing" in rows[0]:
            console.print(f"{tool}: not measured: {rows[0]['missing']}")
            continue
        row = min(rows, key=lambda r: r["total"])
        ours = ours or row
        built = tool != "nas-t2i"
        table.add_row(
            tool,
            f"{row['build']:.2f}" if built else "",
            f"{row['total'] - row['build']:.2f}" if built else "",
            f"{row['total']:.2f}",
            f"{row['total'] / ours['total']:.1f}",
            f"{row['peak'] / 2**30:.2f}",
            f"{row['peak'] / ours['peak']:.1f}",
            f"{row['params'] / 1e9:.3f}",
            f"{row['gmacs']:.2f}",
        )
    console.print(table)
    if ours:
        console.print(f"nas-t2i, a second time in the same process: {ours['warm']:.2f} s")


if __name__ == "__main__":
    main()
