"""Sound lines are read in one pass; it accepts nothing that the reader with places refuses."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.errors import RecordError
from nas_t2i.events import _located_event, _sound_event, progress_interval
from nas_t2i.records import RECORD_VERSION, RungEvent, StartEvent
from nas_t2i.untrusted.json_text import MOST_DIGITS, MOST_LEVELS, may_hold_long_number

STUDY = Path("results/measured/v1/comparison-embedded")
LINES = sorted(STUDY.glob("trials/*/events.jsonl"))[0].read_bytes().splitlines()
START = next(line for line in LINES if b'"event":"start"' in line)
FILE = Path("events.jsonl")


def test_both_readers_say_the_same_of_every_line_on_record():
    for line in LINES:
        event = _sound_event(line)
        assert event is not None and event == _located_event(line, FILE, 1)
        assert json.loads(event.model_dump_json()) == json.loads(_located(line).model_dump_json())


def test_scores_of_prompts_are_kept_small_and_equal_lists():
    (score,) = next(
        event.point.scores.values()
        for event in map(_sound_event, LINES)
        if isinstance(event, RungEvent)
    )
    assert memoryview(score.per_prompt).itemsize == 8
    assert score.per_prompt == list(score.per_prompt) != list(score.per_prompt)[1:]
    assert score.model_copy() == score and score.model_dump()["per_prompt"] == [*score.per_prompt]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth", json.loads("[" * MOST_LEVELS + "]" * MOST_LEVELS)),
        ("depth", int("9" * (MOST_DIGITS + 1))),
        ("version", RECORD_VERSION + 1),
    ],
)
def test_what_goes_too_far_is_left_to_the_reader_with_places(key, value):
    record = json.loads(START)["record"]
    (record if key == "version" else record["arch"])[key] = value
    line = json.dumps({"event": "start", "record": record}).encode()
    assert _sound_event(line) is None
    with pytest.raises(RecordError, match=r"events\.jsonl:1"):
        _located_event(line, FILE, 1)


@given(st.text("ab,. ", max_size=600), st.integers(MOST_DIGITS + 1, 900), st.text("ab,. "))
def test_no_long_number_is_overlooked(before, digits, after):
    assert may_hold_long_number(f"{before}{'7' * digits}{after}".encode())


def _located(line: bytes) -> RungEvent | StartEvent:
    return _located_event(line, FILE, 1)  # type: ignore[return-value]


def test_progress_is_told_less_often_as_a_trial_grows_old_and_soon_enough_for_its_driver():
    told = [progress_interval(seconds, 600.0) for seconds in (0.0, 60.0, 300.0, 600.0, 36_000.0)]
    assert told == [1.0, 1.0, 5.0, 10.0, 10.0]
    assert progress_interval(36_000.0, 6.0) == 1.5
