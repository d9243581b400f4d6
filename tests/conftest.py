"""What holds for every test."""

from collections.abc import Iterator

import pytest

from nas_t2i import plugins


@pytest.fixture(autouse=True)
def no_trace_of_plugins() -> Iterator[None]:
    """Forget after a test which code from outside it looked up: a trial would be told of it."""
    used = plugins._used
    before = dict(used)
    yield
    used.clear()
    used.update(before)
