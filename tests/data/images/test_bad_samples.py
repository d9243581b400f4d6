"""Bad samples are counted, named a few times, and stop a run past the declared share."""

import pytest

from nas_t2i.data.images.bad_samples import BadSamples, TooManyBadSamplesError
from nas_t2i.errors import UserError


def test_a_reason_is_heard_five_times_and_then_at_each_doubling() -> None:
    lines: list[str] = []
    samples = BadSamples(0.9, lines.append)
    for number in range(100):
        samples.bad(f"a: {number}", "truncated image")
    samples.bad("b: 1", "broken json")
    assert lines[0] == "bad sample a: 0: truncated image"
    assert [line.split("(")[1] for line in lines[1:-1]] == [
        f"{number} so far)" for number in (2, 3, 4, 5, 8, 16, 32, 64)
    ]
    assert lines[-1] == "bad sample b: 1: broken json"
    assert samples.counts == {"truncated image": 100, "broken json": 1}


def test_the_share_is_exact_at_the_end() -> None:
    samples = BadSamples(0.1, lambda line: None)
    samples.good(9)
    samples.bad("x", "broken json")
    samples.finish()
    samples.bad("y", "no caption")
    with pytest.raises(TooManyBadSamplesError) as caught:
        samples.finish()
    assert isinstance(caught.value, UserError)
    assert str(caught.value) == (
        "data: 2 of 11 samples are bad (1 broken json, 1 no caption); expected at most a share "
        "of 0.1 (data.bad_share)"
    )


def test_a_clear_excess_stops_on_the_way_but_a_run_of_bad_ones_does_not() -> None:
    samples = BadSamples(0.01, lambda line: None)
    for _ in range(999):
        samples.bad("x", "broken json")
    with pytest.raises(TooManyBadSamplesError, match="1000 of 1000"):
        samples.bad("x", "broken json")


def test_with_a_share_of_zero_the_first_one_stops() -> None:
    samples = BadSamples(0.0, lambda line: None)
    samples.good(5000)
    samples.finish()
    with pytest.raises(TooManyBadSamplesError, match="1 of 5001"):
        samples.bad("x", "broken json")
