"""How long, and with how much memory, a leaderboard takes as studies grow.

    python benchmarks/ranking_speed.py [--architectures 100 1000 5000] [--seeds 2] [--profile]

Each study is written as trials leave it: a start, a progress report a second (24 of them), three
rungs with 512 scores of single prompts and an end, every line under its running checksum. One
architecture of ten is stopped at the first rung or the second. `nas-t2i results leaderboard` then
runs as a process of its own, on one thread, and must import no torch. Processor time is user and
system; another process on the machine disturbs it less than wall time.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nas_t2i.logs.sealed import RunningSum
from nas_t2i.results.tables.exports import write_leaderboard
from nas_t2i.store import find_study

TEMPLATE = Path("results/measured/v1/comparison-embedded")
RUNGS = (300, 420, 540)
PROMPTS = 512
PROGRESS_REPORTS = 24


def write_records(folder: Path, architectures: int, seeds: int) -> int:
    """Write a study of so many trials; return its size in bytes."""
    template = sorted((TEMPLATE / "trials").glob("*/events.jsonl"))[0]
    start, *rest = [json.loads(line) for line in template.read_text().splitlines()]
    point = next(event["point"] for event in rest if event["event"] == "rung")
    folder.mkdir(parents=True)
    (folder / "study.json").write_bytes((TEMPLATE / "study.json").read_bytes())
    generator = np.random.default_rng(0)
    levels = generator.normal(0.5, 1.0, architectures)
    size = 0
    for number in range(architectures * seeds):
        arch, seed = divmod(number, seeds)
        level = levels[arch] + 0.4 * generator.standard_normal()
        record = {**start["record"], "number": number, "name": f"A{arch}", "seed": seed}
        record["arch_id"] = f"unet-{arch:012x}"
        params = int(10 ** generator.uniform(6, 9))
        record["profile"] = {**record["profile"], "params": params, "gmacs": params / 1e6}
        events: list[dict[str, Any]] = [{**start, "record": record}]
        last = RUNGS[{3: 0, 13: 1}.get(arch % 20, 2)]
        for k in range(PROGRESS_REPORTS):
            step = 1 + k * last // PROGRESS_REPORTS
            events.append({"event": "progress", "step": step, "loss": 0.1 / (1 + k), "seconds": k})
        for i, step in enumerate(RUNGS[: RUNGS.index(last) + 1]):
            share = 1 / (1 + np.exp(-(level - 0.4 * (2 - i))))
            single = np.round(generator.binomial(6, share, PROMPTS) / 6, 6)
            score = {
                **point["scores"]["tifa"],
                "value": float(single.mean()),
                "stderr": float(single.std(ddof=1) / np.sqrt(PROMPTS)),
                "per_prompt": single.tolist(),
            }
            events.append({"event": "rung", "point": {**point, "step": step}})
            events[-1]["point"]["scores"] = {"tifa": score}
        state = "complete" if last == RUNGS[-1] else "stopped"
        events.append({"event": "end", "state": state, "reason": ""})
        running = RunningSum()
        lines = [running.seal(json.dumps(e, separators=(",", ":")).encode()) for e in events]
        trial = folder / "trials" / f"{number:05}"
        trial.mkdir(parents=True)
        content = b"\n".join(lines) + b"\n"
        (trial / "events.jsonl").write_bytes(content)
        size += len(content)
    return size


def measured(folder: Path) -> tuple[float, float, float]:
    """Run the command; return wall seconds, processor seconds and its peak memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    code = (
        "import sys; from nas_t2i.cli.main import main\n"
        f"sys.argv = ['nas-t2i', 'results', 'leaderboard', {str(folder)!r}]\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    begin = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code],
        environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begin
    if status:
        raise SystemExit(f"the leaderboard of {folder} ended with status {status}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main(sizes: list[int], seeds: int, rounds: int, profile: bool) -> None:
    """Print a row for each size of study: the best of the rounds."""
    print(f"{seeds} seeds, {len(RUNGS)} rungs, {PROMPTS} prompts, {rounds} rounds, the fastest")
    print("architectures  records MB  wall s  processor s  peak MB   load")
    for count in sizes:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / f"study-{count}"
            size = write_records(folder, count, seeds)
            found = [measured(folder) for _ in range(rounds)]
            wall, processor, memory = (min(column) for column in zip(*found, strict=True))
            print(
                f"{count:13}{size / 1e6:12.1f}{wall:8.2f}{processor:13.2f}{memory:9.0f}"
                f"{os.getloadavg()[0]:7.1f}",
                flush=True,
            )
            if profile:
                with cProfile.Profile() as profiler:
                    write_leaderboard(find_study(str(folder)))
                pstats.Stats(profiler).sort_stats("cumulative").print_stats(35)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--architectures", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    given = parser.parse_args()
    main(given.architectures, given.seeds, given.rounds, given.profile)
