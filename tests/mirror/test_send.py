import shutil
import time

import pytest

from nas_t2i.mirror.fetch import checkpoints_at, fetch_checkpoints
from nas_t2i.mirror.place import open_place
from nas_t2i.mirror.send import Sender
from tests.mirror.conftest import broken

PROGRESS = b'{"event":"progress","step":1}\n'
RUNG = b'{"event":"rung","point":1}\n'


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "study"
    (folder / "trials/x").mkdir(parents=True)
    (folder / "study.json").write_bytes(b"{}")
    (folder / ".lock").write_bytes(b"")
    (folder / "trials/x/config.json").write_bytes(b"{}")
    (folder / "trials/x/decisions").write_bytes(b"go 1")
    (folder / "trials/x/events.jsonl").write_bytes(b'{"event":"start"}\n')
    return folder


@pytest.fixture
def place(tmp_path):
    return open_place(f"file://{tmp_path}/there")


def save(folder, step, *, keep=2, files=1):
    """Save a checkpoint as a trial does: renamed when whole, older ones removed."""
    checkpoints = folder / "trials/x/checkpoints"
    half = checkpoints / f".step-{step:08d}"
    half.mkdir(parents=True)
    for rank in range(files):
        (half / f"rank-{rank}.pt").write_bytes(bytes([step % 256]) * 1000)
    half.rename(checkpoints / f"step-{step:08d}")
    for old in sorted(checkpoints.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_changes_is_sent(url, folder):
    place, said = open_place(url), []
    sender = Sender(place, folder, {}, said.append)
    wait_for(lambda: len(place.list()) == 3)
    with (folder / "trials/x/events.jsonl").open("ab") as stream:
        stream.write(RUNG + b'{"event":"ru')
    (folder / "rungs.jsonl").write_bytes(b'{"event":"seen"}\n')
    save(folder, 1, files=2)
    assert sender.finish(5) == ""
    assert said == []
    assert sorted(place.list()) == [
        "rungs.jsonl",
        "study.json",
        "trials/x/checkpoints/step-00000001.whole",
        "trials/x/checkpoints/step-00000001/rank-0.pt",
        "trials/x/checkpoints/step-00000001/rank-1.pt",
        "trials/x/config.json",
        "trials/x/events.jsonl",
    ]
    # A line on its way is not sent.
    assert place.get("trials/x/events.jsonl") == b'{"event":"start"}\n' + RUNG


def test_the_url_keeps_as_many_checkpoints_as_the_folder(url, folder, tmp_path):
    place = open_place(url)
    sender = Sender(place, folder, {}, print)
    there = "trials/x/checkpoints"
    for step in range(1, 5):
        save(folder, step)
        newest = f"{there}/step-{step:08d}.whole"
        wait_for(lambda name=newest: name in place.list())
    assert sender.finish(5) == ""
    assert checkpoints_at(place.list()) == {there: ["step-00000003", "step-00000004"]}
    assert sum("rank-0" in name for name in place.list()) == 2
    fetch_checkpoints(place, tmp_path / "other", "trials/x")
    found = tmp_path / "other" / there
    assert sorted(file.name for file in found.iterdir()) == ["step-00000003", "step-00000004"]
    assert (found / "step-00000004/rank-0.pt").read_bytes() == bytes([4]) * 1000


def test_a_checkpoint_without_its_mark_is_none(place, folder, tmp_path):
    place.put("trials/x/checkpoints/step-00000001/rank-0.pt", b"half")
    fetch_checkpoints(place, tmp_path / "other", "trials/x")
    assert not (tmp_path / "other").exists()
    assert checkpoints_at(place.list()) == {}


def test_at_every_moment_a_search_could_go_on_from_the_url(place, folder):
    """Kept in order: config, then record, then checkpoint; a decision before what came of it."""
    put, order = place._put, []
    save(folder, 1)
    (folder / "rungs.jsonl").write_bytes(b"{}\n")

    def watched(self, name, how):
        order.append(name)
        put(name, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(place), "_put", watched)
        Sender(place, folder, {}, print).finish(5)
    assert order == [
        "study.json",
        "rungs.jsonl",
        "trials/x/config.json",
        "trials/x/events.jsonl",
        "trials/x/checkpoints/step-00000001/rank-0.pt",
        "trials/x/checkpoints/step-00000001.whole",
    ]


def test_progress_alone_is_sent_once_a_minute(place, folder):
    file = folder / "trials/x/events.jsonl"
    sender = Sender(place, folder, {}, print)
    wait_for(lambda: place.get("trials/x/events.jsonl"))
    with file.open("ab") as stream:
        stream.write(PROGRESS)
    time.sleep(1.0)
    assert PROGRESS not in place.get("trials/x/events.jsonl")
    with file.open("ab") as stream:
        stream.write(RUNG)
    wait_for(lambda: place.get("trials/x/events.jsonl").endswith(PROGRESS + RUNG))
    with file.open("ab") as stream:
        stream.write(PROGRESS)
    assert sender.finish(5) == ""
    assert place.get("trials/x/events.jsonl").endswith(PROGRESS)  # at the end all of it


def test_a_store_that_is_away_is_told_once_and_tried_again(place, folder):
    said = []
    with broken(place, "put_file", "pipe_file"):
        sender = Sender(place, folder, {}, said.append)
        wait_for(lambda: said)
        time.sleep(0.5)
    assert len(said) == 1
    assert "can't be written now: the store is away" in said[0]
    wait_for(lambda: len(said) == 2)
    assert "answers again" in said[1]
    assert sender.finish(5) == ""
    assert len(place.list()) == 3


def test_what_could_not_be_sent_is_told_and_stays(place, folder):
    with broken(place, "put_file", "pipe_file"):
        sender = Sender(place, folder, {}, print)
        left = sender.finish(0.1)
    assert left == "3 files and checkpoints, study.json for one: the store is away"
    assert (folder / "study.json").exists()


def test_what_is_there_already_is_not_sent_again(place, folder):
    Sender(place, folder, {}, print).finish(5)
    with broken(place, "put_file", "pipe_file"):
        assert Sender(place, folder, place.list(), print).finish(0.1) == ""


def test_a_checkpoint_that_was_brought_is_not_sent_back(place, folder, tmp_path):
    save(folder, 1)
    Sender(place, folder, {}, print).finish(5)
    listing = place.list()
    shutil.rmtree(folder / "trials/x/checkpoints")
    sender = Sender(place, folder, listing, print)
    fetch_checkpoints(place, folder, "trials/x")
    with broken(place, "put_file"):
        assert sender.finish(0.1) == ""
    sender = Sender(place, folder, listing, print)
    save(folder, 2, keep=1)
    assert sender.finish(5) == ""
    assert checkpoints_at(place.list()) == {"trials/x/checkpoints": ["step-00000002"]}


def test_nothing_is_sent_by_whoever_lost_the_study(place, folder):
    sender = Sender(place, folder, {}, print, may_send=lambda: False)
    assert sender.finish(5).startswith("3 files")
    assert place.list() == {}
