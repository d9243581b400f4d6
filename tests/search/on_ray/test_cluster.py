"""What a trial needs, and where it finds it: plain arithmetic, and folders of this machine."""

import threading
from types import SimpleNamespace

import pytest

from nas_t2i.errors import PausedError
from nas_t2i.search.on_ray import cluster as module
from nas_t2i.search.on_ray.cluster import Cluster, Need, _look_around, one_line
from nas_t2i.version import __version__
from tests.search.tiny_trials import quick_budget

EIGHT, FOUR = {"GPU": 8.0, "CPU": 64.0}, {"GPU": 4.0, "CPU": 64.0}


def on_gpus(**execution) -> Need:
    budget = quick_budget(**execution)
    cuda = budget.training.model_copy(update={"device": "cuda"})
    return Need.of(budget.model_copy(update={"training": cuda}))


def test_a_rank_needs_a_gpu_or_a_share_of_one_or_its_threads():
    assert str(on_gpus()) == "1 GPU"
    assert on_gpus(trials_per_device=3).trials_on([EIGHT]) == 24
    assert str(Need.of(quick_budget(ranks=2))) == "2 times 1 CPU"
    assert Need.of(quick_budget()).trials_on([{"CPU": 2.0}, {"memory": 1.0}]) == 2


def test_a_trial_is_on_one_node_unless_it_is_larger_than_each():
    need = on_gpus(ranks=3)
    assert need.is_packed([FOUR, FOUR])
    assert need.trials_on([FOUR, FOUR]) == 2  # the two GPUs that are left are on two nodes
    large = on_gpus(ranks=6)
    assert not large.is_packed([FOUR, FOUR]) and large.trials_on([FOUR, FOUR]) == 1
    assert large.is_packed([FOUR, EIGHT]) and large.trials_on([FOUR, EIGHT]) == 1
    assert on_gpus(ranks=9).trials_on([EIGHT]) == 0


def test_a_node_tells_what_it_has_and_which_folders_it_lacks(tmp_path):
    lost = str(tmp_path / "lost")
    assert _look_around([str(tmp_path), lost]) == (__version__, [lost], "")
    assert _look_around([], f"file://{tmp_path}/study") == (__version__, [], "")
    assert "Protocol not known" in _look_around([], "s33://bucket/study")[2]


def test_of_an_error_the_last_line_is_told():
    assert one_line(RuntimeError("ray::task()\n  File x\nValueError: no\n")) == "ValueError: no"
    assert one_line(RuntimeError()) == "RuntimeError"


def test_a_head_is_gone_that_does_not_answer_not_one_that_was_not_asked(monkeypatch):
    clock, head = [0.0], SimpleNamespace(nodes=list, available_resources=dict)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(module, "ray", head)
    cluster = Cluster.__new__(Cluster)  # connected to nothing
    cluster.address, cluster._asked_at, cluster._told_gone = "head:1", None, False
    cluster._look()
    clock[0] += 1000  # the driver was paused
    cluster.check()
    assert cluster.ask_head(lambda: "answer") == "answer"
    head.nodes = lambda: 1 / 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cluster._look()
        clock[0] += 15
    with pytest.raises(PausedError, match="head:1 has not answered for 20 s"):
        cluster.ask_head(threading.Event().wait)
    with pytest.raises(PausedError):
        cluster.check()
    cluster.check()  # once
