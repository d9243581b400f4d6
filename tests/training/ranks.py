"""Runs `rank_worker` on several real ranks over gloo and reads what it left."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    losses: list[float]  # by step; a step that was taken again after a resume counts once
    retaken: dict[int, list[float]]  # the losses of steps that were taken more than once
    weights: dict[str, torch.Tensor]  # averaged; empty when the run was killed
    signals: dict[int, dict]  # of the averaged weights, by rank


def run_ranks(
    folder: Path,
    ranks: int,
    *,
    steps: int = 4,
    micro_batch: int | None = None,
    killed_at: int = -1,
    save_every: int = 1000,
    bad_sample: int = -1,
    execution: dict | None = None,
    **training,
) -> Run:
    folder.mkdir(exist_ok=True)
    job = {
        "folder": str(folder),
        "steps": steps,
        "micro_batch": micro_batch,
        "killed_at": killed_at,
        "save_every": save_every,
        "bad_sample": bad_sample,
        "execution": {"ranks": ranks} | (execution or {}),
        "training": training,
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.rank_worker", json.dumps(job)],
            cwd=ROOT,
            env=os.environ
            | {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_SIZE": str(ranks),  # as DeepSpeed's launcher has it: the ranks share memory
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                "CUDA_VISIBLE_DEVICES": "",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    status = {process.returncode for process in processes}
    expected = {-9} if killed_at >= 0 else {0}
    assert status == expected, "\n".join(outputs)
    assert not list(Path("/dev/shm").glob(f"deepspeed_*_{port}_*"))  # noqa: S108
    return _read(folder)


def _read(folder: Path) -> Run:
    taken: dict[int, list[float]] = {}
    for line in (folder / "curve.jsonl").read_text().splitlines():
        step, loss = json.loads(line)
        taken.setdefault(step, []).append(loss)
    saved = folder / "averaged.pt"
    return Run(
        losses=[taken[step][-1] for step in sorted(taken)],
        retaken={step: losses for step, losses in taken.items() if len(losses) > 1},
        weights=torch.load(saved, weights_only=True) if saved.exists() else {},
        signals={
            int(file.stem[8:]): json.loads(file.read_text())
            for file in folder.glob("signals-*.json")
        },
    )
