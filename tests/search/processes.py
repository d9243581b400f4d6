"""Follows real trial processes to their end."""

import json
import time

import psutil

from nas_t2i.records import EndEvent, RungEvent

DEADLINE_SECONDS = 400  # a first start compiles an operator


def follow(trial, *, on_event=lambda trial, event: None):
    """Poll a trial to its end, letting it go on at every rung; return all its events."""
    events, deadline = [], time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for event in trial.poll():
            events.append(event)
            if isinstance(event, EndEvent):
                return events
            on_event(trial, event)
            if isinstance(event, RungEvent):
                trial.decide(event.point.step, True)
        time.sleep(0.02)
    raise AssertionError(f"no end after {DEADLINE_SECONDS} s: {events}")


def rank(folder, number: int) -> dict:
    """What a rank of a proxy left: pid and environment. Waits until it is there."""
    file = folder / f"rank{number}.json"
    wait_until(file.exists)
    return json.loads(file.read_text())


def wait_until(true) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether that process does anything still: a zombie that nobody reaps does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
