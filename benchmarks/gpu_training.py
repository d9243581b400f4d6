"""Images and FLOPs a second of our training on a GPU, beside a bare loop and diffusers' example.

    python benchmarks/gpu_training.py [--arch SDXL-C320 SD2-C320] [--batch 256] [--rounds 3]

What came of it on a GPU so far: docs/measured-speed.md. Compiling a large model takes minutes:
allow a quarter of an hour for each architecture, or use --no-compile.

All train the same architecture in bfloat16 autocast, with float32 weights, on the same random
latents and text features, with the same batch and micro-batch:

- ours: nas_t2i.training.loop.Trainer under budgets/paper_256.yaml. It reads latents and text from
  host memory and draws its noise there, a step ahead, as from a cache of encoded pairs.
- regional: ours with `execution.compile: regional`, which compiles the repeated blocks alone.
- graphs: ours with `execution.compile: reduce-overhead`, which replays CUDA graphs.
- recorded: ours with `execution.cuda_graphs`: not compiled, each pass recorded once.
- eager: ours, not compiled.
- shared: as many of recorded at once as --side-by-side says, like `execution.trials_per_device`;
  the images of all together.
- bare: the model compiled, fused AdamW; the data lie on the GPU and torch draws the noise there.
- example: the structure of diffusers' examples/text_to_image/train_text_to_image.py without
  accelerate and with encoded pairs: a DataLoader, the library's noise scheduler, plain AdamW.

Each runs in a process of its own, alone on the GPU (shared: in several); they take turns, round by
round. FLOPs are 3 x 2 x the multiply-adds of a forward pass (full count) an image; their share is
of the speed of a large bfloat16 matrix product, the best seen in this run. "batches" is what one
CPU thread takes to make what ours reads in a step; it does so while the step before computes, so
the GPU waits only where that is longer than a step.

What torch compiled is found again on the disk, by later architectures too: name an empty folder in
$TORCHINDUCTOR_CACHE_DIR to see what the first one takes ("warm after").

Small proxies, as SDXL-C320's of the embedded budget, do not fill a GPU:

    python benchmarks/gpu_training.py --batch 64 --micro-batch 64 --latent-size 8 --steps 100
        --contenders ours graphs recorded eager shared bare --side-by-side 8
        --arch 'family=unet,channels=20,channel_mult=[1, 2, 4],transformer_depth=[0, 1, 4],
        res_blocks=1,head_dim=4,norm_groups=4,text_dim=1024,latent_channels=4'

Without a GPU, for example:

    python benchmarks/gpu_training.py --device cpu --batch 4 --micro-batch 2 --latent-size 8
        --arch 'family=unet,channels=8,channel_mult=[1, 2],transformer_depth=[0, 1],res_blocks=1,
        head_dim=8,norm_groups=4,text_dim=1024,latent_channels=4' --threads 1 --no-compile
        --matmul 256
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_contenders import (
    CHANNELS,
    CONTENDERS,
    DOWNSAMPLING,
    TEXT_WIDTH,
    TOKENS,
    make_budget,
    make_feed,
    processes_of,
)

from nas_t2i.arch.profile import profile
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.spec import Arch
from nas_t2i.environment import describe_environment
from nas_t2i.protocol.budget import Budget
from nas_t2i.training import noise
from nas_t2i.training.batches import make_batch
from nas_t2i.training.flops import training_flops
from nas_t2i.training.micro_batch import find_micro_batch


def found_micro_batch(arch: Arch, budget: Budget) -> int:
    """Return the micro-batch that a trial of `arch` would find for itself."""
    with tempfile.TemporaryDirectory() as name:
        # All that is read of the autoencoder is its shape: none has to be fetched for it.
        levels = [32] * DOWNSAMPLING.bit_length()
        vae = {"_class_name": "AutoencoderKL", "block_out_channels": levels}
        Path(name, "config.json").write_text(json.dumps(vae | {"latent_channels": CHANNELS}))
        latents = budget.latents.model_copy(update={"model": name})
        plain = budget.model_copy(update={"latents": latents}).model_dump(mode="json")
        config = Path(name, "trial.json")
        config.write_text(json.dumps({"budget": plain, "trained_arch": arch.canonical()}))
        return find_micro_batch(config)


# ---- measuring, in a process of its own -------------------------------------------------------


def measure(
    name: str, options: argparse.Namespace, wait: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Return how long a contender's steps took, in seconds, and its most memory, in bytes.

    "warm" is what the steps before took, compiling among them.

    Once it is warm it calls `wait`.
    """
    torch.set_num_threads(max(1, options.threads // processes_of(name, options)))
    arch = resolve_arch(options.arch[0]).arch
    micro_batch = int(options.micro_batch)
    budget = make_budget(options, micro_batch, name)
    take = CONTENDERS[name](arch, budget, make_feed(options), micro_batch)
    begin = time.perf_counter()
    take(options.warm_up)
    _finish(options.device)
    warm = time.perf_counter() - begin
    wait()
    begin = time.perf_counter()
    take(options.steps)
    _finish(options.device)
    seconds = time.perf_counter() - begin
    return {"warm": warm, "seconds": seconds, "peak": _peak_bytes(options.device)}


def measure_batches(options: argparse.Namespace) -> dict[str, float]:
    """Return what it takes to make what ours reads in a step, by part, in ms of a CPU thread."""
    torch.set_num_threads(1)
    feed, objective = make_feed(options), make_budget(options, 1).objective
    count, cpu = int(options.micro_batch), torch.device("cpu")
    parts: dict[str, Callable[[int], object]] = {
        "all": lambda first: make_batch(feed, objective, 0, first, count, cpu),
        "noise": lambda first: noise.draw_noise(0, first, (count, *feed.latent_shape)),
        "time steps": lambda first: noise.draw_timesteps(0, first, count),
    }
    found = {}
    for part, make in parts.items():
        rounds = []
        for step in range(11):
            begin = time.thread_time()
            for first in range(step * options.batch, (step + 1) * options.batch, count):
                make(first)
            rounds.append(1000 * (time.thread_time() - begin))
        found[part] = statistics.median(rounds[1:])
    return found


def _wait_for_the_others() -> None:
    print("warm", flush=True)
    sys.stdin.readline()


def measure_matmul(options: argparse.Namespace) -> dict[str, float]:
    """Return the FLOPs per second of a square bfloat16 matrix product, the best of several."""
    torch.set_num_threads(options.threads)
    side = options.matmul
    a, b = (torch.randn(side, side, device=options.device).bfloat16() for _ in range(2))
    a @ b
    best = 0.0
    for _ in range(10):
        _finish(options.device)
        begin = time.perf_counter()
        for _ in range(10):
            a @ b
        _finish(options.device)
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - begin))
    return {"rate": best}


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_own_processes(
    contender: str, arch: str, micro_batch: int, count: int = 1
) -> list[dict[str, float]]:
    """Measure in so many fresh processes at once; nothing where one fails, after saying why."""
    command = [sys.executable, __file__, *sys.argv[1:], "--contender", contender]
    command += ["--arch", arch, "--micro-batch", str(micro_batch)]
    with contextlib.ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count)]
        running = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=error,
                    text=True,
                )
            )
            for error in errors
        ]
        for process in running:  # none begins before all are warm
            assert process.stdout is not None
            while process.stdout.readline() not in ("warm\n", ""):
                pass
        outputs = [process.communicate("\n")[0] for process in running]
        for process, error in zip(running, errors, strict=True):
            if process.returncode:
                error.seek(0)
                reason = error.read().strip().splitlines()[-1:]
                reason = reason or [f"exit status {process.returncode}"]
                print(f"{contender}: not measured: {reason[0]}", flush=True)
                return []
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def measure_once(
    kind: str, arch: str, micro_batch: int, options: argparse.Namespace
) -> dict[str, float] | None:
    """Return a contender's images a second and its most memory, None where it fails.

    Of the matrix product: FLOPs a second.
    """
    found = in_own_processes(kind, arch, micro_batch, processes_of(kind, options))
    if not found or kind == "matmul":
        return found[0] if found else None
    images = len(found) * options.batch * options.steps
    return {
        "rate": images / max(row["seconds"] for row in found),
        "warm": max(row["warm"] for row in found),
        "peak": sum(row["peak"] for row in found),
    }


def compare(name: str, options: argparse.Namespace) -> None:
    """Let the contenders take turns on one architecture and print what came of it."""
    arch = resolve_arch(name).arch
    counted = profile(arch, latent_size=options.latent_size, text_tokens=TOKENS)
    if options.micro_batch == "auto":
        micro_batch = found_micro_batch(arch, make_budget(options))
    else:
        micro_batch = int(options.micro_batch)
    print(
        f"\n{counted.name}: {counted.params / 1e6:.3f} M parameters, {counted.gmacs:.3f} GMACs; "
        f"batch {options.batch}, micro-batch {micro_batch}",
        flush=True,
    )
    for row in in_own_processes("batches", name, micro_batch):
        parts = ", ".join(f"{part} {row[part]:.2f}" for part in row)
        print(f"batches, ms of one CPU thread a step: {parts}", flush=True)
    kinds = ("matmul", *options.contenders)
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, rows in measured.items():
            found = measure_once(kind, name, micro_batch, options)
            if found is not None:
                rows.append(found)
                # At once: compiling takes minutes, and a run may be cut.
                unit = 1e12 if kind == "matmul" else 1
                warm = f", warm after {found['warm']:.1f} s" if "warm" in found else ""
                print(
                    f"{kind}: {found['rate'] / unit:.1f} {'TFLOP' if unit > 1 else 'images'}/s"
                    + warm,
                    flush=True,
                )
    peak = max((row["rate"] for row in measured.pop("matmul")), default=float("nan"))
    print(f"bfloat16 matrix product of side {options.matmul}: {peak / 1e12:.3f} TFLOP/s")
    print(
        f"{'':10}{'images/s':>10}{'TFLOP/s':>10}{'of product':>12}{'peak GiB':>10}{'ours is':>10}"
    )
    own = measured.get("ours", [])
    for kind, rows in measured.items():
        if not rows:
            continue
        rate = statistics.median(row["rate"] for row in rows)
        flops = training_flops(counted.gmacs, 1) * rate
        memory = max(row["peak"] for row in rows) / 2**30
        ratios = [a["rate"] / b["rate"] for a, b in zip(own, rows, strict=False)]
        times = f"{statistics.median(ratios):9.3f}x" if ratios else ""
        print(
            f"{kind:10}{rate:10.1f}{flops / 1e12:10.3f}{flops / peak:12.1%}{memory:10.2f}{times}"
            f"  by round: {', '.join(f'{ratio:.3f}' for ratio in ratios)}",
            flush=True,
        )


def main() -> None:
    """Compare on each architecture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--arch",
        nargs="+",
        default=["SDXL-C320", "SD2-C320"],
        help=f"what `nas-t2i profile --arch` takes, for {CHANNELS} channels and text of width "
        f"{TEXT_WIDTH}",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--batch", type=int, default=256, help="images a step")
    parser.add_argument("--micro-batch", default="auto", help="images a forward pass")
    parser.add_argument("--latent-size", type=int, default=32)
    parser.add_argument("--zero-stage", type=int, choices=[0, 1, 2, 3], default=0, help="of ours")
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=3, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=10, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--matmul", type=int, default=8192, help="side of the matrix product")
    parser.add_argument(
        "--contenders", nargs="*", choices=list(CONTENDERS), default=["ours", "bare", "example"]
    )
    parser.add_argument("--side-by-side", type=int, default=8, help="processes of shared")
    parser.add_argument(
        "--contender", choices=["matmul", "batches", *CONTENDERS], help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    graphs = {"graphs", "recorded", "shared"} & set(options.contenders)
    if options.zero_stage and graphs:
        parser.error(f"{', '.join(sorted(graphs))}: expected --zero-stage 0")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu runs it on a small --arch")
    if options.contender == "matmul":
        _wait_for_the_others()
        print(json.dumps(measure_matmul(options)))
        return
    if options.contender == "batches":
        _wait_for_the_others()
        print(json.dumps(measure_batches(options)))
        return
    if options.contender:
        print(json.dumps(measure(options.contender, options, _wait_for_the_others)))
        return
    device = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU"
    machine = describe_environment(options.threads)
    print(f"{device}, {machine.cpu}, {machine.cores} cores, load {os.getloadavg()[0]:.1f}")
    print(
        ", ".join(
            f"{name} {machine.versions[name]}" for name in ("torch", "diffusers", "deepspeed")
        )
    )
    layout = "channels last" if options.channels_last else "contiguous"
    compiled = "compiled" if options.compile else "not compiled"
    print(f"ours and bare: {compiled}, {layout}; {options.rounds} rounds of {options.steps} steps")
    for name in options.arch:
        compare(name, options)


if __name__ == "__main__":
    main()
