import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas_t2i.errors import RecordError, StorageError
from nas_t2i.training.checkpoint import Checkpoints, newest_checkpoint
from nas_t2i.training.ranks import Ranks
from nas_t2i.training.saved_state import load_state

ALONE = Ranks(0, 1, torch.device("cpu"))
ROOT = Path(__file__).parents[2]


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_round_trip(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, ranks=ALONE)
    assert checkpoints.load() is None
    checkpoints.save(3, {"step": 3, "weights": {"w": torch.arange(4.0)}, "losses": [0.5]})
    first, own = checkpoints.load()
    assert own is first and first["step"] == 3 and first["losses"] == [0.5]
    assert torch.equal(first["weights"]["w"], torch.arange(4.0))
    assert names(tmp_path) == ["step-00000003"]


def test_the_newest_are_kept_and_the_newest_is_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, ranks=ALONE)
    for step in (2, 9, 10, 11):
        checkpoints.save(step, {"step": step})
    assert names(tmp_path) == ["step-00000010", "step-00000011"]
    assert checkpoints.load()[0] == {"step": 11}


def test_a_save_that_was_cut_never_shadows_the_last_good_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, ranks=ALONE)
    checkpoints.save(1, {"step": 1})
    # What a process leaves that is killed while it writes the next one.
    partial = tmp_path / ".step-00000002"
    partial.mkdir()
    (partial / "rank-0.pt").write_bytes(b"PK half a fi")
    assert checkpoints.load()[0] == {"step": 1}
    checkpoints.save(2, {"step": 2})
    assert checkpoints.load()[0] == {"step": 2}
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


_FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from nas_t2i.training.checkpoint import CheckpointError, Checkpoints
from nas_t2i.training.ranks import Ranks
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2, ranks=Ranks(0, 1, torch.device("cpu")))
checkpoints.save(1, {"step": 1})
# No file may grow beyond this: writing fails as on a full disk.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(2, {"weights": torch.zeros(1_000_000)})
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_is_told_and_the_last_good_one_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "step-00000002: the checkpoint can't be written" in done.stdout, done.stderr
    assert "step-00000001 stays" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert names(tmp_path) == ["step-00000001"]
    assert load_state(newest_checkpoint(tmp_path) / "rank-0.pt") == {"step": 1}


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/.step-00000001").write_text("a file where the folder goes")
    with pytest.raises(StorageError, match="can't be made"):
        Checkpoints(tmp_path / "checkpoints", keep=2, ranks=ALONE).save(1, {"step": 1})


class _Evil:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", pickle.dumps(_Evil())])
def test_what_is_no_checkpoint_is_refused_by_name_and_never_executed(tmp_path, content, capsys):
    path = tmp_path / "rank-0.pt"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"rank-0\.pt: not a checkpoint"):
        load_state(path)
    assert "ran" not in capsys.readouterr().out
