"""How many images fit in one forward and backward pass: found in a throw-away process, then kept.

    python -m nas_t2i.training.micro_batch results/STUDY/trials/KEY/config.json

The process tries the divisors of a rank's batch from 1 upwards on random inputs and prints one JSON
line for each that fits, so that the last line is the answer even if the system kills it for the
memory it takes. Weights, gradients and activations are measured; what DeepSpeed adds for each
weight (masters, moments, average) is counted, because it depends on the number of ranks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil  # type: ignore[import-untyped]
import torch

from nas_t2i import plugins
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ConfigError
from nas_t2i.files import read_json, write_json
from nas_t2i.plugins import Origin
from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import latent_geometry
from nas_t2i.training.ranks import Ranks

FROZEN_FILE = "micro_batch.json"
_FLOAT = 4  # bytes; weights, gradients and everything of the optimiser are float32
_MARGIN = 0.9  # share of the memory that may be used: fragments and what was not counted
_BUCKET = 500_000_000  # gradients that a ZeRO stage collects before it sends them; DeepSpeed's own
_OUT_OF_MEMORY = re.compile(r"alloc|memory|could not (create|execute) a primitive")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class Config(Protocol):
    """What is read of a trial's config."""

    @property
    def budget(self) -> dict[str, Any]:
        """The whole budget."""


def frozen_micro_batch(folder: Path, config: Config, ranks: Ranks) -> int:
    """Return the images of one rank's forward pass, the same on every rank of a trial.

    With "auto" it is found when the trial first starts and kept in its folder, so that a resumed
    trial takes the very steps of an uninterrupted one.
    """
    asked = config.budget["execution"]["micro_batch"]
    if asked != "auto":
        return int(asked)
    own_batch = config.budget["training"]["batch"] // ranks.size
    return int(ranks.agree(_found_or_find(folder, own_batch) if ranks.is_first else 0))


def _found_or_find(folder: Path, own_batch: int) -> int:
    file = folder / FROZEN_FILE
    if file.exists():
        found = read_json(file).get("micro_batch")
        if type(found) is not int or found < 1:
            raise ConfigError(f"{file}: micro_batch", f"got {found!r:.60}", expected="at least 1")
        if own_batch % found == 0:  # else it was found for another number of ranks
            return found
    found = find_micro_batch(folder / "config.json")
    write_json(file, {"micro_batch": found, "rank_batch": own_batch})
    return found


def smaller_micro_batch(size: int, halvings: int) -> int:
    """Return the largest divisor of a micro-batch that is at most it, halved so many times.

    A trial that ran out of memory is tried again with it; its steps are the same but for the order
    in which gradients are added.
    """
    return max(d for d in _divisors(size) if d <= max(1, size >> halvings))


def find_micro_batch(config_path: Path) -> int:
    """Return the largest divisor of a rank's batch whose training step fits in memory.

    1 where nothing seems to fit: on several ranks each holds only a part of the model.

    Raises:
        RuntimeError: the step fails for another reason than memory.
    """
    done = subprocess.run(
        [sys.executable, "-m", "nas_t2i.training.micro_batch", str(config_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    return read_answer(done.returncode, done.stdout)


def read_answer(status: int, output: str) -> int:
    """Return the answer of a process that tried sizes until it was done, or killed for memory."""
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process that looks for a micro-batch ended with status {status}")
    sizes = [json.loads(line)["micro_batch"] for line in output.splitlines() if line[:1] == "{"]
    return int(sizes[-1]) if sizes else 1


def fitting_sizes(budget: Budget, arch: Arch) -> Iterator[int]:
    """Yield the divisors of a rank's batch, ascending, while a training step of each fits."""
    step = _Step(budget, arch)
    limit = _memory_limit(budget) - _uncounted_bytes(budget, step.weights)
    peaks = [(0, step.peak_bytes())]
    for size in _divisors(budget.training.batch // budget.execution.ranks):
        if _extrapolated(peaks, size) > limit:  # on a CPU, trying it could kill others
            return
        try:
            step.take(size)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
                raise
            return
        peaks.append((size, step.peak_bytes()))
        if peaks[-1][1] > limit:
            return
        yield size


class _Step:
    """One training step of an architecture on random inputs, without the optimiser."""

    def __init__(self, budget: Budget, arch: Arch) -> None:
        self._geometry = latent_geometry(budget)
        self._device = torch.device(budget.training.device)
        with self._device:  # to draw billions of weights takes a CPU a minute
            model = build_denoiser(
                arch,
                latent_size=self._geometry.size,
                latent_channels=self._geometry.channels,
                seed=0,
                precision=budget.training.precision,
            )
        # Compiling takes minutes and little memory away.
        model.prepare(budget.execution.model_copy(update={"compile": False}))
        self._model = model.to(self._device)
        self.weights = sum(weight.numel() for weight in model.parameters())
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)

    def take(self, size: int) -> None:
        """Run forward and backward on `size` images."""
        side, device = self._geometry.size, self._device
        x = torch.randn(size, self._geometry.channels, side, side, device=device)
        t = torch.zeros(size, dtype=torch.int64, device=device)
        text = torch.randn(size, self._geometry.tokens, self._geometry.text_width, device=device)
        torch.autograd.backward(self._model(x, t, text).square().mean())

    def peak_bytes(self) -> int:
        """Return the most memory that this process has had so far."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved()
        # Not getrusage: a process's ru_maxrss begins with that of the one that started it.
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(peak) * 1024


def _uncounted_bytes(budget: Budget, weights: int) -> int:
    """Return what a rank holds besides, or with ZeRO less, than whole weights and gradients."""
    training, execution = budget.training, budget.execution
    stage, ranks = training.zero_stage, execution.ranks
    average = 1 if training.ema_decay else 0
    moments = 0.0 if "optimizer" in execution.offload else 2.0
    master = 0.0 if "optimizer" in execution.offload or stage == 0 else 1.0
    if stage >= 1:
        moments, master = moments / ranks, master / ranks
    values = moments + master + average
    if stage >= 2:
        values -= 1 - 1 / ranks  # gradients
    if stage == 3:
        values -= (1 - 1 / ranks) * (1 + average)
    # On a CPU, a bucket takes memory only where it is filled.
    bucket = _BUCKET if stage >= 1 and training.device == "cuda" else 0
    return int(_FLOAT * (values * weights + bucket))


def _memory_limit(budget: Budget) -> int:
    """Return the bytes that this process may have at its peak."""
    if budget.training.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        own = total / budget.execution.trials_per_device
        return int(_MARGIN * min(free + torch.cuda.memory_reserved(), own))
    memory = psutil.virtual_memory()
    total = memory.total
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
        total = min(total, int(_CGROUP_LIMIT.read_text()))
    available = memory.available + psutil.Process().memory_info().rss
    return int(_MARGIN * min(available, total / _ranks_side_by_side(budget)))


def _ranks_side_by_side(budget: Budget) -> int:
    """Return how many ranks share this machine's memory when all trials run."""
    planned = budget.search.parallel * budget.execution.ranks
    return planned or max(1, (os.cpu_count() or 1) // budget.training.threads)


def _extrapolated(peaks: list[tuple[int, int]], size: int) -> float:
    """Return the peak to expect at `size` from those measured, (size, bytes) ascending."""
    if len(peaks) < 3:
        return peaks[-1][1]
    (first, low), (last, high) = peaks[-2:]
    return high + (high - low) / (last - first) * (size - last)


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def main(arguments: list[str]) -> int:
    """Print a JSON line for each size that fits the trial whose config.json is named."""
    config = read_json(Path(arguments[0]))
    plugins.restore(Origin.model_validate(origin) for origin in config.get("plugins", ()))
    budget = recorded_budget(config["budget"], Path(arguments[0]))
    torch.set_num_threads(budget.training.threads)
    for size in fitting_sizes(budget, arch_from_dict(config["trained_arch"])):
        print(json.dumps({"micro_batch": size}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
