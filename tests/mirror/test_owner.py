import time

import pytest

from nas_t2i.errors import StorageError
from nas_t2i.mirror.owner import OWNER_FILE, Lease, new_token
from nas_t2i.mirror.place import open_place


def take(place, *known, said=None):
    return Lease(place, [*known, new_token()], (said if said is not None else []).append)


@pytest.fixture
def place(tmp_path):
    return open_place(f"file://{tmp_path}/there").at("study")


def test_a_second_driver_is_refused_as_long_as_the_first_is_there(place):
    first = take(place)
    with pytest.raises(StorageError, match="is being searched by process"):
        take(place)
    assert not first.lost
    first.release(begun=True)
    second = take(place)
    second.release(begun=True)
    assert second.before.token == first.token
    assert second.before.released


def test_a_driver_that_is_gone_is_waited_for_and_followed(place):
    first = take(place)
    first._closed.set()  # as killed: it gives no sign of life and leaves nothing in order
    first._thread.join()
    said, begin = [], time.monotonic()
    second = take(place, said=said)
    assert time.monotonic() - begin >= 1.5
    assert "has not left it; watching" in said[0]
    second.release(begun=True)


def test_whoever_is_known_to_be_gone_is_not_waited_for(place):
    first = take(place)
    first._closed.set()
    first._thread.join()
    begin = time.monotonic()
    take(place, first.token).release(begun=True)
    assert time.monotonic() - begin < 1.0


def test_a_driver_that_was_cut_off_sees_who_took_over(place):
    first = take(place)
    second = take(place, first.token)
    deadline = time.monotonic() + 20
    while not first.lost and time.monotonic() < deadline:
        time.sleep(0.05)
    assert first.lost.startswith("process ")
    first.release(begun=True)  # which takes nothing from the other
    time.sleep(0.5)
    assert not second.lost
    second.release(begun=True)


def test_of_a_search_that_never_began_nothing_stays(place):
    take(place).release(begun=False)
    assert place.list() == {}


def test_an_object_of_others_is_refused(place):
    place.put(OWNER_FILE, b'{"x": 1}')
    with pytest.raises(StorageError, match="not what a search puts there"):
        take(place)
