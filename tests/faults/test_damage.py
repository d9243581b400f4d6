"""Damaged records and mutants of spaces and budgets: refused in a line, or right.

The short form runs with all tests; the campaign is marked `slow`:
``pytest -m slow tests/faults/test_damage.py -n 0 -s`` prints its figures.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import nas_t2i.results.comparands
import nas_t2i.results.tables.exports
import nas_t2i.training.export  # noqa: F401  loaded once, for all runs
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.profile import profile
from nas_t2i.cli.main import main
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.store import read_contents
from tests.faults.mutants import Outcome, damaged, run

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "results" / "measured" / "v1" / "comparison-embedded"
KEYS = [f"unet-0498b1ce35e3-s{seed}" for seed in range(3)]
TRIAL = Path("trials") / KEYS[0]
CHECKPOINT = TRIAL / "checkpoints" / "step-00000540" / "rank-0.pt"
SEED = 20261126
SMALL = {
    "unet": "channels: {choice: [64, 128]}\n  channel_mult: [1, 2]\n  res_blocks: 1\n"
    "  transformer_depth: {1: 0, 2: {range: [0, 2]}}",
    "pixart": "hidden: {choice: [64, 128]}\n  depth: {range: [1, 3]}\n  heads: 4",
}


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Load what the commands import, once for all forks."""
    for command in ("results leaderboard", "results compare", "validate", "export"):
        with contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
    with contextlib.suppress(SystemExit):
        main(
            ["validate", str(ROOT / "budgets/embedded.yaml"), str(ROOT / "budgets/paper_256.yaml")]
        )
    list(profile(arch_from_dict({"family": "pixart", "hidden": 64, "depth": 1})).levels)
    rank_trials(read_contents(STUDY).trials[:1])


def small_files(folder: Path) -> list[Path]:
    """Return spaces of a few small architectures, and the budgets."""
    files = []
    for family, parameters in SMALL.items():
        file = folder / f"small_{family}.yaml"
        file.write_text(
            f"name: small\nfamily: {family}\nparameters:\n  {parameters}\n"
            "limits:\n  params: {max: 100000000}\n"
        )
        files.append(file)
    return files + sorted((ROOT / "budgets").glob("*.yaml"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials of a measured study, the first with a checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("damage") / "study"
    for key in KEYS:
        shutil.copytree(STUDY / "trials" / key, folder / "trials" / key)
    shutil.copy(STUDY / "study.json", folder)
    config = json.loads((folder / TRIAL / "config.json").read_text())
    model = arch_from_dict(config["trained_arch"]).build(config["trained_profile"]["latent_size"])
    weights = {f"model.{name}": value.detach() for name, value in model.named_parameters()}
    trainer = {
        "step": 540,
        "seconds": 1.0,
        "losses": [],
        "ranks": 1,
        "zero_stage": 0,
        "shapes": [list(value.shape) for value in weights.values()],
        "names": list(weights),
        "weights": list(weights.values()),
        "average": list(weights.values()),
        "engine": {},
    }
    (folder / CHECKPOINT).parent.mkdir(parents=True)
    torch.save(
        {"trainer": trainer, "evaluation_seconds": 1.0, "reported": 540}, folder / CHECKPOINT
    )
    rungs = [
        json.loads(line) for line in (folder / TRIAL / "events.jsonl").read_text().splitlines()
    ]
    score = next(event["point"]["scores"]["tifa"] for event in rungs if event["event"] == "rung")
    for name in ("result.json", "other.json"):
        (folder / name).write_text(json.dumps({"metric": "tifa", "score": score}, indent=2))
    return folder


def read_back(study: Path, file: Path, output: Path) -> Outcome:
    """Run the command that reads a file of the study."""
    shutil.rmtree(output, ignore_errors=True)
    if file.name in ("config.json", "rank-0.pt"):
        return run(["export", str(study / TRIAL), "-o", str(output)])
    if file.name == "result.json":
        return run(["results", "compare", str(study / file), str(study / "other.json")])
    return run(["results", "leaderboard", str(study)])


RECORDS = (
    Path("study.json"),
    TRIAL / "events.jsonl",
    TRIAL / "config.json",
    CHECKPOINT,
    Path("result.json"),
)


def corrupt_records(study: Path, output: Path, number: int) -> Counter[str]:
    faults, counts = [], Counter[str]()
    whole = {file: (study / file).read_bytes() for file in RECORDS}
    right = {file: read_back(study, file, output) for file in RECORDS}
    weights = "diffusion_pytorch_model.safetensors"
    assert all(outcome.status == 0 for outcome in right.values()), right
    read_back(study, CHECKPOINT, output)
    exported = (output / weights).read_bytes()
    for index in range(number):
        file = RECORDS[index % len(RECORDS)]
        rng = random.Random(f"{SEED} records {index}")  # noqa: S311  (not for secrets)
        (study / file).write_bytes(damaged(whole[file], rng))
        outcome = read_back(study, file, output)
        (study / file).write_bytes(whole[file])
        fault = outcome.fault()
        if not fault and outcome.status == 0 and file == CHECKPOINT:
            # Its checksums leave no room: what is exported is what was saved.
            same = (output / weights).read_bytes() == exported
            fault = "" if same else "other weights are exported"
        if not fault and outcome.status == 2 and output.exists():
            fault = "refused, but something was written"
        if fault:
            print(f"{index} {fault}", file=sys.__stderr__, flush=True)
            faults.append(f"{index} {file.name}: {fault}")
        kind = "refused" if outcome.status == 2 else "right"
        counts.update([kind, f"{file.name} {kind}"])
        counts["slowest, ms"] = max(counts["slowest, ms"], round(1000 * outcome.seconds))
        counts["largest, MB"] = max(counts["largest, MB"], outcome.peak_bytes // 10**6)
    assert not faults, f"{len(faults)} of {number}:\n" + "\n".join(faults[:20])
    return counts


def mutate_files(folder: Path, files: list[Path], number: int) -> Counter[str]:
    faults, counts = [], Counter[str]()
    for index in range(number):
        original = files[index % len(files)]
        rng = random.Random(f"{SEED} mutants {index}")  # noqa: S311  (not for secrets)
        mutant = folder / f"mutant_{original.name}"
        mutant.write_bytes(damaged(original.read_bytes(), rng))
        outcome = run(["validate", str(mutant)])
        fault = outcome.fault()
        if not fault and outcome.status == 2 and str(mutant) not in outcome.err:
            fault = f"no place: {outcome.err}"
        if fault:
            print(f"{index} {fault}", file=sys.__stderr__, flush=True)
            faults.append(f"{index} {original.name}: {fault}")
        counts["refused" if outcome.status == 2 else "accepted"] += 1
        counts["slowest, ms"] = max(counts["slowest, ms"], round(1000 * outcome.seconds))
        counts["largest, MB"] = max(counts["largest, MB"], outcome.peak_bytes // 10**6)
    assert not faults, f"{len(faults)} of {number}:\n" + "\n".join(faults[:20])
    return counts


def test_some_damaged_records_are_refused_or_right(study, tmp_path):
    assert corrupt_records(study, tmp_path / "out", 30)["refused"] > 5


def test_some_mutants_are_refused_or_right(tmp_path):
    assert mutate_files(tmp_path, small_files(tmp_path), 60)["refused"] > 20


@pytest.mark.slow
def test_500_damaged_records_are_refused_or_right(study, tmp_path):
    print(dict(corrupt_records(study, tmp_path / "out", 500)))


@pytest.mark.slow
def test_1000_mutants_are_refused_or_right(tmp_path):
    shipped = sorted((ROOT / "search_spaces").glob("*.yaml"))
    print(dict(mutate_files(tmp_path, small_files(tmp_path) * 6 + shipped, 1000)))
