"""Both ends of the file that decisions travel through, in this process and in another."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from nas_t2i.errors import StorageError
from nas_t2i.search.decisions import DecisionLog, Decisions, InterruptedTrialError
from tests.search.processes import wait_until


@pytest.fixture
def log(tmp_path):
    log = DecisionLog(tmp_path)
    yield log
    log.close()


@pytest.fixture
def listen(tmp_path):
    """Make the trial's end of a start."""
    made, before = [], signal.getsignal(signal.SIGTERM)

    def make(start):
        made.append(Decisions(tmp_path, start))
        return made[-1]

    yield make
    for decisions in made:
        decisions.close()
    signal.signal(signal.SIGTERM, before)


def test_each_rung_gets_its_own_word(log, listen):
    decisions = listen(log.start)
    log.say("go 2")
    assert decisions.go_on(2)
    threading.Timer(0.3, log.say, ["stop 4"]).start()
    assert not decisions.go_on(4)
    log.say("go 4")
    time.sleep(0.4)
    assert not decisions.go_on(4)
    assert decisions.go_on(2)
    decisions.check()


def test_a_word_on_a_later_rung_lets_a_trial_pass_that_lost_its_last_save(log, listen):
    decisions = listen(log.start)
    log.say("stop 4")
    assert decisions.go_on(2)
    assert not decisions.go_on(4)


def test_half_a_line_says_nothing_yet(log, listen, tmp_path):
    with (tmp_path / "decisions").open("a") as stream:
        stream.write("go 4")
        stream.flush()
        decisions = listen(log.start)
        assert not decisions._said
        stream.write("0\n")
    assert decisions.go_on(40)
    assert 4 not in decisions._said


def test_asked_to_leave_even_before_it_listened(log, listen):
    log.say("leave")
    decisions = listen(log.start)
    with pytest.raises(InterruptedTrialError, match="asked to leave"):
        decisions.go_on(2)


def test_sigterm_asks_to_leave(log, listen):
    decisions = listen(log.start)
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(InterruptedTrialError, match="SIGTERM"):
        decisions.check()


def test_a_driver_that_lets_go_is_gone(listen, tmp_path):
    log = DecisionLog(tmp_path)
    decisions = listen(log.start)
    log.close()
    wait_until(decisions.gone.is_set)
    with pytest.raises(InterruptedTrialError, match="driver is gone"):
        decisions.check()


def test_what_was_said_to_an_earlier_start_is_void(listen, tmp_path):
    earlier = DecisionLog(tmp_path)
    earlier.say("stop 2")
    earlier.say("leave")
    earlier.close()
    now = DecisionLog(tmp_path)
    decisions = listen(now.start)
    decisions.check()
    now.say("go 2")
    assert decisions.go_on(2)
    assert listen(earlier.start).gone.is_set()
    now.close()


def test_a_trial_leaves_when_another_driver_took_over_between_two_looks(log, listen, tmp_path):
    decisions = listen(log.start)
    # The lock is held all the time, as far as the trial can see.
    (tmp_path / "decisions").write_text("start another\ngo 2\n")
    wait_until(decisions.gone.is_set)
    with pytest.raises(InterruptedTrialError, match="another driver"):
        decisions.go_on(2)


def test_two_drivers_cannot_run_one_trial(log, tmp_path):
    with pytest.raises(StorageError, match=r"trial .* is run by process \d+ on host"):
        DecisionLog(tmp_path)


def test_a_hung_trial_does_not_outlive_its_driver_for_ever(tmp_path):
    log = DecisionLog(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; "
        "from nas_t2i.search.decisions import Decisions; "
        "Decisions(Path(sys.argv[1]), sys.argv[2], outlive_seconds=0.2); "
        "print(flush=True); time.sleep(60)"
    )
    hung = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, log.start], stdout=subprocess.PIPE
    )
    with hung:
        hung.stdout.readline()
        log.close()
        assert hung.wait(30) == 1
