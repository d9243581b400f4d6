"""Images and FLOPs a second of our training on a GPU, beside a bare loop and diffusers' example.

    python benchmarks/gpu_training.py [--arch SDXL-C320 SD2-C320] [--batch 256] [--rounds 3]

What came of it on a GPU so far: docs/measured-speed.md. Compiling a large model takes minutes:
allow a quarter of an hour for each architecture, or use --no-compile.

All train the same architecture in bfloat16 autocast, with float32 weights, on the same random
latents and text features, with the same batch and micro-batch:

- ours: nas_t2i.training.loop.Trainer under budgets/paper_256.yaml. It reads latents and text from
  host memory and draws its noise there, a step ahead, as from a cache of encoded pairs.
- bare: the model compiled, fused AdamW; the data lie on the GPU and torch draws the noise there.
- example: the structure of diffusers' examples/text_to_image/train_text_to_image.py without
  accelerate and with encoded pairs: a DataLoader, the library's noise scheduler, plain AdamW.

Each runs in a process of its own, alone on the GPU; they take turns, round by round. FLOPs are
3 x 2 x the multiply-adds of a forward pass (full count) an image; their share is of the speed of a
large bfloat16 matrix product, the best seen in this run. Without a GPU, for example:

    python benchmarks/gpu_training.py --device cpu --batch 4 --micro-batch 2 --latent-size 8
        --arch 'family=unet,channels=8,channel_mult=[1, 2],transformer_depth=[0, 1],res_blocks=1,
        head_dim=8,norm_groups=4,text_dim=1024,latent_channels=4' --threads 1 --no-compile
        --matmul 256
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from bare_loop import CachedTensors, bare_loop
from torch import Tensor, nn

from nas_t2i.arch.profile import profile
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.spec import Arch
from nas_t2i.environment import describe_environment
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.shipped import find_file
from nas_t2i.training.denoiser import Denoiser
from nas_t2i.training.flops import training_flops
from nas_t2i.training.loop import Trainer
from nas_t2i.training.micro_batch import find_micro_batch
from nas_t2i.training.ranks import join_ranks

TOKENS, TEXT_WIDTH, CHANNELS, DOWNSAMPLING = 77, 1024, 4, 8  # the paper's text and latents
Step = Callable[[], object]


def make_budget(options: argparse.Namespace, micro_batch: int | None = None) -> Budget:
    """Return the paper's budget for one device, with the batch and the options of this run."""
    paper = load_budget(find_file("paper_256", "budgets"))
    data = {"resolution": options.latent_size * DOWNSAMPLING}
    training = {
        "batch": options.batch,
        "device": options.device,
        "zero_stage": options.zero_stage,
        "threads": options.threads,
    }
    execution = {
        "ranks": 1,
        "micro_batch": micro_batch or "auto",
        "channels_last": options.channels_last,
        "compile": options.compile,
    }
    return paper.model_copy(
        update={
            "data": paper.data.model_copy(update=data),
            "training": paper.training.model_copy(update=training),
            "execution": paper.execution.model_copy(update=execution),
        }
    )


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


# ---- the contenders: each returns a function that takes one step ------------------------------


def build_on_device(arch: Arch, budget: Budget, feed: CachedTensors) -> nn.Module:
    """Return the diffusers model, its weights drawn on the device: billions take a CPU a minute."""
    with torch.device(budget.training.device):
        return arch.build(feed.latent_shape[1])


def ours(arch: Arch, budget: Budget, feed: CachedTensors, micro_batch: int) -> Step:
    """Set up our trainer as a trial does."""
    ranks = join_ranks(budget.training.device)
    model = build_on_device(arch, budget, feed)
    denoiser = Denoiser(model, CHANNELS, budget.training.precision, arch.call)
    denoiser.prepare(budget.execution)
    trainer = Trainer(denoiser, feed, budget, 0, ranks, micro_batch)
    return lambda: trainer.train_to(trainer.step + 1, lambda *_: None)


def bare(arch: Arch, budget: Budget, feed: CachedTensors, micro_batch: int) -> Step:
    """Set up the bare loop, its model compiled and laid out as ours is."""
    device, execution = budget.training.device, budget.execution
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    model = build_on_device(arch, budget, feed).to(memory_format=layout)
    if execution.compile:
        model.compile()

    def predict(noisy: Tensor, t: Tensor, text: Tensor) -> Tensor:
        noisy = noisy.contiguous(memory_format=layout)
        with torch.autocast(device, torch.bfloat16):
            out = model(noisy, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
        return out[:, :CHANNELS].float()

    return bare_loop(predict, model.parameters(), feed, budget, micro_batch)


def example(arch: Arch, budget: Budget, feed: CachedTensors, micro_batch: int) -> Step:
    """Set up the example's structure: what it does each step, with its defaults."""
    from diffusers import DDPMScheduler
    from torch.utils.data import DataLoader, TensorDataset

    device, settings = budget.training.device, budget.training.optimizer
    model = build_on_device(arch, budget, feed)
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / settings.warmup_steps)
    )
    loader = DataLoader(
        TensorDataset(feed.latents, feed.text),
        batch_size=micro_batch,
        shuffle=True,
        drop_last=True,
        pin_memory=device == "cuda",
    )
    batches = _endless(loader)
    micro_batches = budget.training.batch // micro_batch

    def step() -> None:
        for _ in range(micro_batches):
            latents, text = (part.to(device) for part in next(batches))
            eps = torch.randn_like(latents)
            t = torch.randint(1000, (len(latents),), device=device)
            noisy = scheduler.add_noise(latents, eps, t)
            with torch.autocast(device, torch.bfloat16):
                out = model(noisy, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
            loss = nn.functional.mse_loss(out[:, :CHANNELS].float(), eps.float())
            torch.autograd.backward(loss / micro_batches)
            loss.item()  # for the log
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()

    return step


def _endless(batches: torch.utils.data.DataLoader[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
    while True:
        yield from batches


CONTENDERS = {"ours": ours, "bare": bare, "example": example}


# ---- measuring, in a process of its own -------------------------------------------------------


def measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return a contender's images per second and the most memory that it had, in bytes."""
    torch.set_num_threads(options.threads)
    arch = resolve_arch(options.arch[0]).arch
    micro_batch = int(options.micro_batch)
    generator = torch.Generator().manual_seed(0)
    side = options.latent_size
    feed = CachedTensors(
        torch.randn(options.batch, CHANNELS, side, side, generator=generator),
        torch.randn(options.batch, TOKENS, TEXT_WIDTH, generator=generator),
    )
    step = CONTENDERS[name](arch, make_budget(options, micro_batch), feed, micro_batch)
    for _ in range(options.warm_up):
        step()
    _finish(options.device)
    begin = time.perf_counter()
    for _ in range(options.steps):
        step()
    _finish(options.device)
    seconds = time.perf_counter() - begin
    return {"rate": options.batch * options.steps / seconds, "peak": _peak_bytes(options.device)}


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


def in_own_process(contender: str, arch: str, micro_batch: int) -> dict[str, float] | None:
    """Measure in a fresh process; None where it fails, after saying why."""
    command = [sys.executable, __file__, *sys.argv[1:], "--contender", contender]
    command += ["--arch", arch, "--micro-batch", str(micro_batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        print(f"{contender}: not measured: {reason[0]}", flush=True)
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


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
    kinds = ("matmul", *options.contenders)
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, rows in measured.items():
            found = in_own_process(kind, name, micro_batch)
            if found is not None:
                rows.append(found)
                # At once: compiling takes minutes, and a run may be cut.
                unit = 1e12 if kind == "matmul" else 1
                print(
                    f"{kind}: {found['rate'] / unit:.1f} {'TFLOP' if unit > 1 else 'images'}/s",
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
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=[*CONTENDERS])
    parser.add_argument("--contender", choices=["matmul", *CONTENDERS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu runs it on a small --arch")
    if options.contender == "matmul":
        print(json.dumps(measure_matmul(options)))
        return
    if options.contender:
        print(json.dumps(measure(options.contender, options)))
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
