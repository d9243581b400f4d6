"""One training step of ours against a bare PyTorch loop: same model, data, optimiser and loss.

    python benchmarks/training_step.py [--size embedded|50m] [--steps 20] [--rounds 7]

The bare loop holds latents and text in memory, draws noise with torch.randn, and calls forward,
backward, clip_grad_norm_, AdamW.step and the weight average, nothing else. The two take turns step
by step in one process; ratios are of the median seconds a step of each round. On a CPU there is a
second ratio, of the processor time that the training thread used: other processes on the machine
disturb it less. Then our step's parts, each timed by itself.

Memory that a step frees stays with the process (two settings of glibc, for which the script starts
itself again). Else one contender's gradients go back to the system when they are freed and the
other's do not, by who came first, which moved the ratio by 2 to 5 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from bare_loop import CachedTensors, bare_loop

from nas_t2i.arch.catalog import lookup
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.spec import Arch
from nas_t2i.environment import cache_dir
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.shipped import find_file
from nas_t2i.streams import normal_rows
from nas_t2i.training.denoiser import Denoiser, build_denoiser
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.loop import Trainer
from nas_t2i.training.ranks import join_ranks

# 50 M parameters at the paper's latents (4 x 32 x 32) and text (77 x 1024).
_UNET_50M = {
    "family": "unet",
    "channels": 88,
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 1, 1],
    "res_blocks": 2,
    "head_dim": 44,
    "norm_groups": 22,
    "text_dim": 1024,
    "latent_channels": 4,
}
# Above anything that a step allocates, in bytes.
_KEEP_FREED = {"MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000"}
_CLOCKS = {"wall": time.perf_counter, "processor": time.thread_time}


def time_parts(trainer: Trainer, steps: int) -> dict[str, float]:
    """Return the mean milliseconds of each part of our step, each part timed by itself."""
    seconds: defaultdict[str, float] = defaultdict(float)

    def timed(owner: Any, method: str, part: str) -> None:
        inner = getattr(owner, method)

        def outer(*args: Any) -> Any:
            begin = time.perf_counter()
            result = inner(*args)
            if trainer.ranks.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[part] += time.perf_counter() - begin
            return result

        setattr(owner, method, outer)

    timed(trainer, "_batches", "data wait")
    timed(trainer, "_loss", "forward")
    timed(trainer._engine, "backward", "backward")
    timed(trainer._engine, "step", "optimiser")
    timed(trainer, "_update_average", "weight average")
    begin = time.perf_counter()
    trainer.train_to(trainer.step + steps, lambda *_: None)
    seconds["logging and the rest"] = time.perf_counter() - begin - sum(seconds.values())
    return {part: 1000 * value / steps for part, value in seconds.items()}


def make_case(size: str, device: str) -> tuple[Budget, Arch, CachedTensors]:
    """Return budget, architecture and data of a size."""
    budget = load_budget(find_file("embedded", "budgets"))
    training = budget.training.model_copy(update={"steps": 10**6, "device": device})
    if size == "embedded":
        inputs = Inputs(budget, cache_dir())
        samples = inputs.make_feed(0).samples(0, 4096)
        rule = budget.proxy
        assert rule is not None
        arch = lookup("SDXL-C320").proxy(rule, latent_channels=12, text_dim=64)
        feed = CachedTensors(samples.x0, samples.text)
    else:
        training = training.model_copy(update={"batch": 4, "ema_decay": 0.0})
        arch = arch_from_dict(_UNET_50M)
        latents = torch.from_numpy(normal_rows(0, "latents", 0, 64, 4 * 32 * 32))
        text = torch.from_numpy(normal_rows(0, "text", 0, 64, 77 * 1024))
        feed = CachedTensors(latents.view(64, 4, 32, 32), text.view(64, 77, 1024))
    return budget.model_copy(update={"training": training}), arch, feed


def one_round(
    steps: int, contenders: dict[str, Callable[[], object]]
) -> dict[tuple[str, str], float]:
    """Let the contenders take turns; return each one's median seconds a step by each clock."""
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(steps):
        for name, step in contenders.items():
            begin = {clock: read() for clock, read in _CLOCKS.items()}
            step()
            for clock, read in _CLOCKS.items():
                taken[name, clock].append(read() - begin[clock])
    return {key: statistics.median(seconds) for key, seconds in taken.items()}


def main() -> None:
    """Take turns and print medians, the ratio of each round, and the parts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=["embedded", "50m"], default="embedded")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if not os.environ.keys() >= _KEEP_FREED.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _KEEP_FREED)  # noqa: S606
    torch.set_num_threads(1)
    budget, arch, feed = make_case(options.size, options.device)
    ranks = join_ranks(options.device)

    def build() -> Denoiser:
        channels, side = feed.latent_shape[:2]
        model = build_denoiser(arch, latent_size=side, latent_channels=channels, seed=0)
        return model.to(ranks.device)

    trainer = Trainer(build(), feed, budget, 0, ranks)
    bare_model = build()
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: trainer.train_to(trainer.step + 1, lambda *_: None),
        "bare": bare_loop(bare_model, bare_model.parameters(), feed, budget),
    }
    parameters = sum(weight.numel() for weight in bare_model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters, batch {budget.training.batch}, 1 thread")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    one_round(3, contenders)
    rounds = [one_round(options.steps, contenders) for _ in range(options.rounds)]
    for clock in ("wall", "processor") if options.device == "cpu" else ("wall",):
        for name in contenders:
            milliseconds = 1000 * statistics.median(times[name, clock] for times in rounds)
            print(f"{milliseconds:8.2f} ms a step, {clock} time: {name}")
        ratios = [times["ours", clock] / times["bare", clock] for times in rounds]
        by_round = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"ours / bare, {clock} time: {statistics.median(ratios):.3f} (by round: {by_round})")
    for part, milliseconds in time_parts(trainer, options.steps).items():
        print(f"{milliseconds:8.2f} ms  {part}")


if __name__ == "__main__":
    main()
