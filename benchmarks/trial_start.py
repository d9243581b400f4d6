"""From the start of a trial's process to its first training step, and what the time goes into.

    python benchmarks/trial_start.py [--arch SDXL-C320] [--rounds 3]

The text encoder and DeepSpeed's compiled operator are cached by a first, uncounted round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

_CHILD = """
import sys, time
begun = float(sys.argv[1]); marks = {}
def mark(name):
    marks[name] = time.time() - begun - sum(marks.values())
mark("python")
import torch; torch.set_num_threads(1); mark("import torch")
import diffusers.models; from diffusers import UNet2DConditionModel; mark("import diffusers")
import deepspeed; mark("import deepspeed")
from nas_t2i.arch.catalog import lookup
from nas_t2i.environment import cache_dir
from nas_t2i.protocol.budget import load_budget
from nas_t2i.shipped import find_file
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.inputs import latent_geometry, make_inputs
from nas_t2i.training.loop import Trainer
mark("import nas_t2i")
budget = load_budget(find_file("embedded", "budgets"))
shape = latent_geometry(budget)
full, width = lookup(sys.argv[2]), budget.text.width
arch = full.proxy(budget.proxy, latent_channels=shape.channels, text_dim=width)
inputs = make_inputs(budget, cache_dir()); mark("render and encode the data")
model = build_denoiser(
    arch, latent_size=shape.size, latent_channels=shape.channels, seed=0
)
mark("build the model")
trainer = Trainer(model, inputs, budget, 0); mark("DeepSpeed engine")
trainer.train_to(1, lambda *_: None); mark("first step")
import json; print("MARKS " + json.dumps(marks))
"""


def start_once(arch: str) -> dict[str, float]:
    """Return the seconds of each part of one start."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(time.time()), arch],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MARKS "))
    marks: dict[str, float] = json.loads(line.removeprefix("MARKS "))
    return marks


def main() -> None:
    """Print the median seconds of each part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="SDXL-C320")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    start_once(options.arch)
    rounds = [start_once(options.arch) for _ in range(options.rounds)]
    for part in rounds[0]:
        print(f"{statistics.median(r[part] for r in rounds):6.2f} s  {part}")
    print(
        f"{statistics.median(sum(r.values()) for r in rounds):6.2f} s  process start to first step"
    )


if __name__ == "__main__":
    main()
