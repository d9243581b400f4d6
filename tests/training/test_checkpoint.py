import pickle

import pytest
import torch

from nas_t2i.errors import RecordError
from nas_t2i.training.checkpoint import load_checkpoint, save_checkpoint


def test_round_trip(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 3, "weights": {"w": torch.arange(4.0)}, "losses": [0.5]})
    state = load_checkpoint(path)
    assert state["step"] == 3 and state["losses"] == [0.5]
    assert torch.equal(state["weights"]["w"], torch.arange(4.0))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_save_that_fails_leaves_the_last_good_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(Exception, match=r"pickle|local"):
        save_checkpoint(path, {"step": lambda: 2})
    assert load_checkpoint(path) == {"step": 1}


class _Evil:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", pickle.dumps(_Evil())])
def test_what_is_no_checkpoint_is_refused_by_name_and_never_executed(tmp_path, content, capsys):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"checkpoint\.pt: not a checkpoint"):
        load_checkpoint(path)
    assert "ran" not in capsys.readouterr().out
