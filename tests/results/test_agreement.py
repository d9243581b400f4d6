"""Two studies' orders side by side, and beside the paper's, from records whose order is known."""

import json
from pathlib import Path

import pytest

from nas_t2i.arch.catalog import CATALOG, reported_orders
from nas_t2i.cli.results.agreement import agreement_command
from nas_t2i.errors import RecordError
from nas_t2i.results.agreement import agreement, order_of, with_paper
from nas_t2i.store import Study
from tests.results.record_factory import study, trial, write_records

RISING = {"A": 0.45, "B": 0.55, "C": 0.65, "D": 0.75, "E": 0.85}


def made(name: str, finals: dict[str, float], *, seeds=(0, 1), ids=None, **changes) -> Study:
    trials = [
        trial(
            arch,
            {100: final - 0.02, 200: final + 0.002 * seed},
            seed=seed,
            arch_id=(ids or {}).get(arch, f"unet-{arch.lower()}"),
            gmacs=100 * final,
        )
        for arch, final in finals.items()
        for seed in seeds
    ]
    return Study(Path("nowhere"), study(name, **changes), trials, [], running=False)


def test_the_same_order_on_another_level_agrees() -> None:
    one = order_of(made("one", RISING))
    other = order_of(made("other", {arch: final / 2 + 0.4 for arch, final in RISING.items()}))
    found = agreement(one, other)
    assert found.spearman.value == pytest.approx(1) and found.kendall.value == pytest.approx(1)
    assert found.told_apart == found.same_way > 5 and not found.contradictions
    assert (found.architectures, found.picked, found.regret) == (5, "E", 0)
    assert one.between_seeds == pytest.approx(1) and one.seeds == 2


def test_a_pair_that_both_tell_apart_the_other_way_is_named_and_costs() -> None:
    turned = RISING | {"D": 0.85, "E": 0.65}
    found = agreement(order_of(made("one", RISING)), order_of(made("other", turned)))
    assert ("E", "D") in found.contradictions
    assert found.told_apart - found.same_way == len(found.contradictions)
    assert found.picked == "E" and found.regret == pytest.approx(
        0.2, abs=0.04
    )  # drawn to the middle
    assert 0 < found.spearman.value < 1


def test_only_architectures_with_every_seed_to_the_end_count() -> None:
    whole = made("one", RISING | {"F": 0.5})
    late = [t for t in whole.trials if (t.name, t.seed) != ("F", 1)]
    assert list(order_of(Study(whole.folder, whole.record, late, [], False)).names.values()) == [
        *RISING
    ]
    with pytest.raises(RecordError, match=r"study one: 3 architectures trained .* expected 4"):
        order_of(made("one", dict(list(RISING.items())[:3])))
    other = made("other", {name.lower() * 2: score for name, score in RISING.items()})
    with pytest.raises(RecordError, match="one and other have 0 architectures in common"):
        agreement(order_of(whole), order_of(other))


def test_the_paper_s_pairs_are_backbones_of_the_catalogue_without_a_circle() -> None:
    better: dict[str, set[str]] = {}
    for pair in reported_orders():
        assert {pair.better, pair.worse} <= CATALOG.keys()
        better.setdefault(pair.worse, set()).add(pair.better)

    def above(name: str) -> set[str]:
        return {one for step in better.get(name, ()) for one in {step, *above(step)}}

    assert all(name not in above(name) for name in better)


def test_a_study_is_held_against_the_paper(tmp_path, capsys) -> None:
    names = ["SDXL-C128", "SDXL-C192", "SDXL-C320", "SDXL-TD4"]
    ids = {name: CATALOG[name].arch_id for name in names}
    finals = dict(zip(names, (0.45, 0.6, 0.7, 0.8), strict=True))  # the paper: TD4 below C320
    found = with_paper(order_of(made("one", finals, ids=ids)))
    assert {(p.order.better, p.order.worse): p.difference > 0 for p in found.pairs} == {
        ("SDXL-C320", "SDXL-C192"): True,
        ("SDXL-C192", "SDXL-C128"): True,
        ("SDXL-C320", "SDXL-TD4"): False,
    }
    assert found.gmacs.value == pytest.approx(1)

    written = made("one", finals, ids=ids)
    for name in ("one", "two"):
        write_records(tmp_path / name, written.record, written.trials)
    agreement_command(["one", "two"], tmp_path)
    shown = capsys.readouterr().out
    assert "the paper has SDXL-C320 over SDXL-TD4 (more transformer blocks help)" in shown
    assert "tells them apart the other way" in shown
    agreement_command(["one", "two"], tmp_path, "json")
    data = json.loads(capsys.readouterr().out)
    assert data["pairs"][0]["same_way"] == data["pairs"][0]["told_apart"] > 0
    assert data["studies"][0]["expected"].keys() == set(names)
