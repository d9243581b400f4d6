"""An actor and its pipes, without a cluster."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from nas_t2i.search.on_ray.pipes import pipes_argument
from nas_t2i.search.runner import TRIAL_MODULE, write_config
from tests.search.on_ray.conftest import free_port, wait_for
from tests.search.test_trial import tiny_config


@pytest.fixture
def a_rank():
    from nas_t2i.search.on_ray.rank import Rank

    return Rank(lease_seconds=1e6)


def feed(rank, content: bytes) -> None:
    """Let a rank read what a process wrote before it ended."""
    events, theirs = os.pipe()
    os.write(theirs, content)
    os.close(theirs)
    rank._read(events)


def test_what_a_process_had_not_finished_to_say_is_no_event(a_rank):
    feed(a_rank, b'{"event":"start"}\n{"event":"rung","po')
    assert a_rank.listen(0, 0).lines == [b'{"event":"start"}']


def test_a_question_that_comes_after_a_later_one_loses_nothing(a_rank):
    feed(a_rank, b"1\n2\n")
    assert a_rank.listen(0, 0).lines == [b"1", b"2"]
    feed(a_rank, b"3\n4\n5\n")
    assert a_rank.listen(2, 0).lines == [b"3", b"4", b"5"]
    a_rank.listen(0, 0)
    assert a_rank.listen(2, 0).lines == [b"3", b"4", b"5"]
    assert a_rank.listen(5, 0).lines == []


def test_a_trial_that_waits_for_its_other_ranks_ends_with_its_actor(tmp_path):
    path = write_config(tmp_path, tiny_config(execution={"ranks": 2}))
    words, ours = os.pipe()
    events, theirs = os.pipe()
    os.close(ours)
    where = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", TRIAL_MODULE, str(path), pipes_argument(words, theirs)],
        env=os.environ | where | {"MASTER_PORT": str(free_port())},
        start_new_session=True,
        pass_fds=(words, theirs),
    )
    try:
        assert process.wait(90) == -signal.SIGKILL
    finally:
        process.kill()
        for descriptor in (words, events, theirs):
            os.close(descriptor)


def test_a_rank_says_while_it_sends_what_its_trial_left(a_rank, tmp_path):
    sent = threading.Event()
    a_rank._away = SimpleNamespace(finish=lambda: "" if sent.wait(60) else "not sent")
    a_rank._process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    reader = threading.Thread()
    reader.start()
    waits = threading.Thread(target=a_rank._wait, args=(reader, tmp_path / "none", 0))
    assert not a_rank.listen(0, 0).moves
    waits.start()
    wait_for(lambda: a_rank.listen(0, 0).moves)
    assert a_rank.listen(0, 0).status is None
    sent.set()
    waits.join()
    assert (a_rank.listen(0, 0).status, a_rank.listen(0, 0).unsent) == (0, "")
