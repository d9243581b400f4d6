"""Is it faster to train two trials side by side, one thread each, or one after the other with two?

    python benchmarks/side_by_side.py [--arch SDXL-C320] [--steps 40] [--rounds 3]

Each process trains the embedded budget's proxy of the architecture for some steps (start-up and
warm-up not counted). The two ways take turns; the ratio is of images per second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

_CHILD = """
import sys, time, torch
threads, steps, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(threads)
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.environment import cache_dir
from nas_t2i.protocol.budget import load_budget
from nas_t2i.shipped import find_file
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.loop import Trainer
from nas_t2i.training.ranks import join_ranks
budget = load_budget(find_file("embedded", "budgets"))
ranks, inputs = join_ranks("cpu"), Inputs(budget, cache_dir())
channels, side, _ = inputs.latent_shape
full, width = resolve_arch(name).arch, inputs.null_text.shape[-1]
arch = full.proxy(budget.proxy, latent_channels=channels, text_dim=width)
model = build_denoiser(arch, latent_size=side, latent_channels=channels, seed=0)
trainer = Trainer(model, inputs.make_feed(0), budget, 0, ranks)
trainer.train_to(5, lambda *_: None)
print("ready", flush=True)
sys.stdin.readline()
begin = time.perf_counter()
trainer.train_to(5 + steps, lambda *_: None)
print(steps * budget.training.batch / (time.perf_counter() - begin), flush=True)
"""


def images_per_second(processes: int, threads: int, steps: int, arch: str) -> float:
    """Train in that many processes at once; return their images per second together."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(threads), str(steps), arch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout
        while (line := child.stdout.readline()) != "ready\n":
            assert line, "a child died; run its code by hand"
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    return sum(float(child.communicate()[0].split()[-1]) for child in children)


def main() -> None:
    """Take turns and print medians and the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="SDXL-C320", help="what `nas-t2i profile --arch` takes")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    one, two = [], []
    for _ in range(options.rounds):
        two.append(images_per_second(2, 1, options.steps, options.arch))
        one.append(images_per_second(1, 2, options.steps, options.arch))
    ratios = [a / b for a, b in zip(two, one, strict=True)]
    print(f"{options.arch}, embedded proxy, {options.rounds} rounds of {options.steps} steps")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    print(f"two trials, one thread each: {statistics.median(two):7.1f} images/s (median)")
    print(f"one trial, two threads:      {statistics.median(one):7.1f} images/s (median)")
    print("ratio by round:", " ".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
