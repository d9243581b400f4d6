"""A trial's folder on a node, with its results at a URL; no cluster is needed."""

import pytest
from fsspec.implementations.local import LocalFileSystem

from nas_t2i.mirror.place import open_place
from nas_t2i.search.on_ray import away as module
from nas_t2i.search.on_ray.away import Away, AwayFolder


@pytest.fixture
def away(tmp_path):
    files = {"config.json": b"{}", "events.jsonl": b"as the driver has it\n"}
    return Away(url=f"file://{tmp_path}/there/trials/k", name="k-1", files=files)


def save(folder, step: int) -> None:
    checkpoint = folder / f"checkpoints/step-{step:08d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "rank-0.pt").write_bytes(b"weights")


def test_a_trial_goes_on_at_another_node(away, tmp_path):
    first = AwayFolder(away, tmp_path / "one", is_first=True)
    assert (first.folder / "events.jsonl").read_bytes() == away.files["events.jsonl"]
    save(first.folder, 1)
    (first.folder / "pictures-000001.png").write_bytes(b"")
    assert first.finish() == ""
    assert not first.folder.exists()
    assert sorted(open_place(away.url).list()) == [  # records are the driver's to send
        "checkpoints/step-00000001.whole",
        "checkpoints/step-00000001/rank-0.pt",
        "pictures-000001.png",
    ]
    second = AwayFolder(away, tmp_path / "two", is_first=True)
    third = AwayFolder(away, tmp_path / "two", is_first=False)  # the next rank, on the same node
    assert third.folder == second.folder
    weights = second.folder / "checkpoints/step-00000001/rank-0.pt"
    assert weights.read_bytes() == b"weights"
    assert third.finish() == ""
    assert weights.exists()
    assert second.finish() == ""


def test_what_a_node_could_not_send_stays_there(away, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("the store is away")

    monkeypatch.setattr(module, "FINISH_SECONDS", 0.1)
    first = AwayFolder(away, tmp_path / "one", is_first=True)
    monkeypatch.setattr(LocalFileSystem, "put_file", fail)
    save(first.folder, 1)
    told = first.finish()
    assert "the store is away; it stays in" in told
    assert (first.folder / "checkpoints/step-00000001/rank-0.pt").exists()


def test_a_trial_whose_checkpoints_can_not_be_fetched_begins_anew(away, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("the store is away")

    monkeypatch.setattr(module, "FETCH_SECONDS", 0.1)
    monkeypatch.setattr(LocalFileSystem, "find", fail)
    first = AwayFolder(away, tmp_path / "one", is_first=True)
    assert "trained from its beginning" in (first.folder / "stderr.log").read_text()
    assert first.finish() == ""
