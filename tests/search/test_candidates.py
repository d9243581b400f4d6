"""The supply of candidates: what is proposed depends on the record, whoever was killed."""

from pathlib import Path

import pytest

from nas_t2i.arch.space import load_space
from nas_t2i.search.beforehand.trainable import count_trainable
from nas_t2i.search.candidates import Proposals
from nas_t2i.search.session import make_factory
from tests.search.test_study import open_study
from tests.training.tiny import tiny_budget

SPACE = """
name: three
family: unet
parameters:
  channels: {choice: [64, 128, 192]}
  channel_mult: [1, 2]
  res_blocks: 1
  transformer_depth: {2: 1}
"""


def used_up(folder: Path, say=lambda _: None):
    """Return a supply whose architectures are all known, and its Optuna study."""
    folder.mkdir(exist_ok=True)
    (folder / "space.yaml").write_text(SPACE)
    space, factory = load_space(folder / "space.yaml"), make_factory(tiny_budget(), (0,))
    known = {c.key: c for c in (factory.make(arch) for arch in space.enumerate())}
    study = open_study(f"journal:{folder / 'study.journal'}", sampler="random")
    supply = Proposals(
        space, factory, study, seed=0, controls=False, exhaustive=False, known=known, say=say
    )
    return supply, study


class KilledError(Exception):
    pass


def test_proposals_refused_by_a_process_that_was_killed_count(tmp_path, monkeypatch):
    supply, alone = used_up(tmp_path / "alone")
    assert supply.next(planned_only=False) is None

    supply, study = used_up(tmp_path / "killed")
    refuse, left = study.refuse, iter(range(7))

    def refuse_seven(draft, why):
        if next(left, None) is None:
            raise KilledError
        refuse(draft, why)

    monkeypatch.setattr(study, "refuse", refuse_seven)
    with pytest.raises(KilledError):
        supply.next(planned_only=False)
    assert study.refused_in_a_row() == 7

    supply, resumed = used_up(tmp_path / "killed")
    assert supply.next(planned_only=False) is None
    assert resumed.count() == alone.count()
    assert resumed.refused_in_a_row() == alone.count()


def test_that_a_space_is_used_up_is_said_once(tmp_path):
    said = []
    supply, study = used_up(tmp_path, said.append)
    assert [supply.next(planned_only=False) for _ in range(3)] == [None] * 3
    asked = study.count()
    assert supply.next(planned_only=False) is None
    assert study.count() == asked
    assert len(said) == 1 and "the space holds no other architecture" in said[0]


def grid(folder: Path, seed: int = 0, known=None):
    """Return what `sampler: grid` proposes of a space, and how much Optuna knows then."""
    folder.mkdir(exist_ok=True)
    (folder / "space.yaml").write_text(SPACE + "include: [SD2-C320]\n")
    space, factory = load_space(folder / "space.yaml"), make_factory(tiny_budget(), (0,))
    study = open_study(f"journal:{folder / 'study.journal'}", sampler="grid")
    said: list[str] = []
    supply = Proposals(
        space,
        factory,
        study,
        seed=seed,
        controls=False,
        exhaustive=True,
        known={} if known is None else known,
        say=said.append,
    )
    found = []
    while (candidate := supply.next(planned_only=False)) is not None:
        found.append(candidate)
    assert len(said) == 1 and "no other architecture" in said[0]
    return found, study.count()


def test_a_grid_proposes_all_of_a_space_once_in_an_order_of_the_seed(tmp_path):
    found, asked = grid(tmp_path / "one")
    assert [c.name for c in found[:1]] == ["SD2-C320"] and len(found) == 4
    assert asked == 3  # what is included beside the space is not Optuna's to know
    again, _ = grid(tmp_path / "two")
    assert [c.name for c in again] == [c.name for c in found]
    orders = {tuple(c.name for c in grid(tmp_path / f"seed{seed}", seed)[0]) for seed in range(6)}
    assert len(orders) > 1
    rest, _ = grid(tmp_path / "one", known={c.key: c for c in found[:2]})
    assert [c.name for c in rest] == [c.name for c in found[2:]]


def test_what_a_grid_will_train_is_known_beforehand(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE + "limits: {params: {max: 1.0e+7}}\n")
    space = load_space(tmp_path / "space.yaml")
    factory = make_factory(tiny_budget(), (0,))
    study = open_study(f"journal:{tmp_path / 'study.journal'}", sampler="grid")
    supply = Proposals(
        space,
        factory,
        study,
        seed=0,
        controls=False,
        exhaustive=True,
        known={},
        say=lambda _: None,
    )
    found = []
    while (candidate := supply.next(planned_only=False)) is not None:
        found.append(candidate.name)
    assert count_trainable(space, factory) == len(found) == 1 < space.count()


@pytest.mark.parametrize("exhaustive", [False, True])
def test_a_space_too_slow_for_its_limit_is_not_measured_to_its_end(
    tmp_path, monkeypatch, exhaustive
):
    monkeypatch.setattr("nas_t2i.search.candidates._TOO_SLOW", 3)
    many = SPACE.replace("[64, 128, 192]", "[64, 128, 192, 256, 320, 384]")
    (tmp_path / "space.yaml").write_text(many + "limits: {latency: {max: 0.5}}\n")
    space, factory = load_space(tmp_path / "space.yaml"), make_factory(tiny_budget(), (0,))
    measured, said = set(), []

    def latency(arch):
        measured.add(arch.arch_id)
        return 0.6

    factory.latency, factory.is_timed = latency, lambda arch: arch.arch_id in measured
    supply = Proposals(
        space,
        factory,
        open_study("", sampler="random"),
        seed=0,
        controls=False,
        exhaustive=exhaustive,
        known={},
        say=said.append,
    )
    assert supply.next(planned_only=False) is None
    assert len(measured) == (space.count() if exhaustive else 3) and len(said) == 1
    assert ("no more is tried: none of 100 timed" in said[0]) is not exhaustive
