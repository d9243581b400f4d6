"""Damaged and wrong checkpoints: refused in one line, or right."""

import random
import zipfile

import pytest
import torch

from nas_t2i.errors import RecordError, StorageError
from nas_t2i.training.checkpoint import newest_checkpoint, read_weights
from nas_t2i.training.export import export_weights
from nas_t2i.training.ranks import join_ranks
from nas_t2i.training.saved_state import load_state, trial_state
from tests.training.test_export import trained_and_saved
from tests.training.tiny import NoiseFeed, tiny_arch, tiny_budget, trainer_on


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    trained_and_saved(folder, ema_decay=0.9)
    return newest_checkpoint(folder / "checkpoints") / "rank-0.pt"


def copied(file, tmp_path):
    folder = tmp_path / "step-00000002"
    folder.mkdir(exist_ok=True)
    (folder / "rank-0.pt").write_bytes(file.read_bytes())
    return folder


def test_flipped_bits_are_refused_or_change_nothing(saved, tmp_path):
    whole, right = saved.read_bytes(), read_weights(saved.parent)
    rng = random.Random(0)  # noqa: S311  (not for secrets)
    folder, refused = copied(saved, tmp_path), 0
    for _ in range(40):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / "rank-0.pt").write_bytes(content)
        try:
            found = read_weights(folder)
        except RecordError as error:
            refused += 1
            assert "rank-0.pt" in str(error) and "\n" not in str(error)
        else:
            assert all(torch.equal(found[name], right[name]) for name in right)
    assert refused > 20


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_cut_file_is_refused(saved, tmp_path, size):
    folder = copied(saved, tmp_path)
    (folder / "rank-0.pt").write_bytes(saved.read_bytes()[:size])
    with pytest.raises(RecordError, match=r"rank-0\.pt: not a checkpoint of a trial"):
        read_weights(folder)


def changed(state, path, value):
    *parents, last = path.split(".")
    for name in parents:
        state = state[name]
    if value is None:
        del state[last]
    else:
        state[last] = value


WRONG = [
    ("trainer", None),
    ("trainer", [1]),
    ("trainer.names", None),
    ("trainer.names", ["a"]),
    ("trainer.names", 5),
    ("trainer.shapes", [[-1]]),
    ("trainer.average", [torch.zeros(3)]),
    ("trainer.average", ["a"]),
    ("trainer.weights", {}),
    ("trainer.zero_stage", 9),
    ("trainer.zero_stage", "0"),
    ("trainer.ranks", 0),
    ("trainer.engine", None),
    ("trainer.step", "2"),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_well_formed_and_wrong_is_one_line(saved, tmp_path, path, value):
    folder, state = copied(saved, tmp_path), load_state(saved)
    changed(state, path, value)
    torch.save(state, folder / "rank-0.pt")
    with pytest.raises(RecordError, match=r"rank-0\.pt: not a checkpoint of a trial: ") as caught:
        read_weights(folder)
    assert "\n" not in str(caught.value)


def test_another_state_than_a_dict_is_one_line(saved, tmp_path):
    folder = copied(saved, tmp_path)
    torch.save([1, 2], folder / "rank-0.pt")
    with pytest.raises(RecordError, match="got a list"):
        read_weights(folder)
    with pytest.raises(RecordError, match="reported is missing"):
        trial_state({**load_state(saved), "evaluation_seconds": 1.0}, "here")


def test_a_compressed_part_is_refused_before_it_is_read(saved, tmp_path):
    folder = copied(saved, tmp_path)
    with (
        zipfile.ZipFile(saved) as whole,
        zipfile.ZipFile(folder / "rank-0.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(RecordError, match="is compressed"):
        read_weights(folder)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_exported_nor_gone_on_from(saved, tmp_path, number):
    folder, state = copied(saved, tmp_path), load_state(saved)
    state["trainer"]["average"][1].view(-1)[0] = number
    torch.save(state, folder / "rank-0.pt")
    objective = tiny_budget(2).objective
    with pytest.raises(RecordError, match=r"is not finite \(NaN or infinite\)"):
        export_weights(folder, tiny_arch(), objective, 8, tmp_path / "out", {})
    with pytest.raises(RecordError, match="is not finite"):
        trial_state({**state, "reported": 1, "evaluation_seconds": 0.0}, "here")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_one_line(saved, tmp_path):
    objective = tiny_budget(2).objective
    with pytest.raises(RecordError, match="weights of another architecture"):
        export_weights(saved.parent, tiny_arch("pixart"), objective, 8, tmp_path / "out", {})
    trainer = trainer_on(NoiseFeed(0), tiny_budget(2), join_ranks("cpu"), family="pixart")
    with pytest.raises(RecordError, match="weights of another architecture"):
        trainer.load_state_dict(load_state(saved)["trainer"])


def test_an_optimiser_that_does_not_fit_is_one_line(saved):
    trainer = trainer_on(NoiseFeed(0), tiny_budget(2, ema_decay=0.9), join_ranks("cpu"))
    state = load_state(saved)["trainer"]
    state["engine"] = {"adam": [1], "masters": []}
    with pytest.raises((RecordError, StorageError), match="does not fit this trial"):
        trainer.load_state_dict(state)
