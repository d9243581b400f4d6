"""The micro-batch: found in a real process, shrunk by real limits, kept for the trial."""

import json
import subprocess
import sys

import pytest
import torch

from nas_t2i.training import micro_batch
from nas_t2i.training.micro_batch import (
    find_micro_batch,
    fitting_sizes,
    frozen_micro_batch,
    read_answer,
)
from nas_t2i.training.ranks import Ranks
from tests.training.ranks import ROOT
from tests.training.tiny import tiny_arch, tiny_budget

AUTO = {"micro_batch": "auto"}
ONE = Ranks(0, 1, torch.device("cpu"))


class Config:
    """As much of a trial's config as is read."""

    def __init__(self, budget) -> None:
        self.budget = budget.model_dump(mode="json")

    def write(self, folder):
        folder.mkdir(exist_ok=True)
        file = folder / "config.json"
        document = {"budget": self.budget, "trained_arch": tiny_arch().canonical()}
        file.write_text(json.dumps(document))
        return file


def test_the_whole_batch_of_a_rank_where_memory_is_plenty(tmp_path):
    config = Config(tiny_budget(batch=12, execution=AUTO | {"ranks": 2}))
    assert find_micro_batch(config.write(tmp_path)) == 6


def test_a_process_that_is_short_of_memory_finds_a_smaller_one(tmp_path):
    file = Config(tiny_budget(batch=4096, execution=AUTO)).write(tmp_path)
    # What is imported and the heap's first arenas are there before memory becomes short.
    code = (
        "import re, resource, sys; from pathlib import Path; "
        "from nas_t2i.training import micro_batch; from tests.training import tiny; "
        "micro_batch._Step(tiny.tiny_budget(), tiny.tiny_arch()).take(1); "
        "status = Path('/proc/self/status').read_text(); "
        "used = int(re.search(r'VmSize:\\s+(\\d+) kB', status)[1]) * 1024; "
        "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2); "
        "micro_batch.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert 1 < read_answer(done.returncode, done.stdout) < 4096


def test_it_stops_before_the_size_that_would_not_fit(monkeypatch):
    taken = []

    class Step(micro_batch._Step):
        def take(self, size):
            taken.append(size)

        def peak_bytes(self):
            return 1000 + 100 * max(taken, default=0)

    monkeypatch.setattr(micro_batch, "_Step", Step)
    monkeypatch.setattr(micro_batch, "_uncounted_bytes", lambda budget, weights: 200)
    monkeypatch.setattr(micro_batch, "_memory_limit", lambda budget: 1200 + 900)
    assert list(fitting_sizes(tiny_budget(batch=32), tiny_arch())) == [1, 2, 4, 8]
    assert taken == [1, 2, 4, 8]


def test_the_answer_is_the_last_size_before_the_process_was_killed():
    assert read_answer(0, '{"micro_batch": 1}\n{"micro_batch": 4}\n') == 4
    assert read_answer(-9, 'a warning\n{"micro_batch": 2}\n') == 2
    assert read_answer(-9, "") == 1
    with pytest.raises(RuntimeError, match="status 1"):
        read_answer(1, '{"micro_batch": 2}\n')


def test_what_is_not_for_want_of_memory_is_an_error(monkeypatch):
    def fail(self, size):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(micro_batch._Step, "take", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        list(fitting_sizes(tiny_budget(), tiny_arch()))


def test_sharing_among_ranks_takes_memory_off_each():
    def held(stage, ranks, offload=(), ema=0.999):
        budget = tiny_budget(
            zero_stage=stage,
            ema_decay=ema,
            execution={"ranks": ranks, "offload": {part: {} for part in offload}},
        )
        return micro_batch._uncounted_bytes(budget, 1000) / 4000

    assert held(0, 1) == 3  # two moments and the average of each weight
    assert held(0, 1, ema=0) == 2
    assert held(0, 4) == 3
    assert held(1, 1) == 4  # and a master
    assert held(1, 4) == pytest.approx(1 + 3 / 4)
    assert held(1, 4, offload=["optimizer"]) == 1
    assert held(2, 4) == pytest.approx(1 + 3 / 4 - 3 / 4)
    # Weights and gradients are measured whole: seven values of each weight in all, shared by four.
    assert 2 + held(3, 4) == pytest.approx(6 / 4)


def test_it_is_found_once_for_a_trial(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(micro_batch, "find_micro_batch", lambda path: found.append(path) or 2)
    config = Config(tiny_budget(batch=8, execution=AUTO))
    assert [frozen_micro_batch(tmp_path, config, ONE) for _ in range(2)] == [2, 2]
    assert found == [tmp_path / "config.json"]
    # Found for a rank's batch of 8; one of 3 can't be cut into twos.
    frozen_micro_batch(tmp_path, Config(tiny_budget(batch=3, execution=AUTO)), ONE)
    assert len(found) == 2


def test_one_that_is_given_is_taken(tmp_path):
    config = Config(tiny_budget(batch=8, execution={"micro_batch": 4}))
    assert frozen_micro_batch(tmp_path, config, ONE) == 4
    assert not list(tmp_path.iterdir())
