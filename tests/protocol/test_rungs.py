"""Rungs in a budget file: a list, by kind, or left out; and what the signals are measured on."""

import copy
from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.protocol.rungs import Rungs, described, ladder

SHIPPED = Path(__file__).parents[2] / "budgets/embedded_v1.yaml"


def lines_with(text: str, key: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip().startswith(key))


def budget(tmp_path: Path, rungs: str, steps: int = 540, keep: str = "[0.5]") -> Budget:
    text = SHIPPED.read_text()
    text = text.replace(lines_with(text, "rungs:"), rungs)
    steps_of_training = text.partition("training:\n")[2].partition("\n")[0]
    text = text.replace(steps_of_training, f"  steps: {steps}")
    text = text.replace(lines_with(text, "keep:"), f"    keep: {keep}")
    file = tmp_path / "b.yaml"
    file.write_text(text)
    return load_budget(file)


def test_a_list_is_all_full_and_written_as_it_was(tmp_path):
    found = budget(tmp_path, "rungs: [300, 540]")
    assert tuple(found.rungs) == found.full_rungs == (300, 540) and not found.rungs.cheap
    assert found.model_dump(mode="json")["rungs"] == [300, 540]
    assert described(found.rungs) == "rungs [300, 540]"


def test_kinds_survive_the_round_trip_and_decide_the_id(tmp_path):
    found = budget(tmp_path, "rungs: {signals: [27, 60], full: [300, 540]}")
    assert tuple(found.rungs) == (27, 60, 300, 540) and found.full_rungs == (300, 540)
    again = Budget.model_validate(found.model_dump(mode="json"), strict=False)
    assert again == found and again.budget_id == found.budget_id
    assert again.rungs.cheap == (27, 60)
    assert (
        found.budget_id != budget(tmp_path, "rungs: [27, 60, 300, 540]", keep="[1, 1, 1]").budget_id
    )
    only_full = budget(tmp_path, "rungs: {full: [300, 540]}")
    assert only_full == budget(tmp_path, "rungs: [300, 540]")


def test_rungs_that_are_left_out_are_a_ladder(tmp_path):
    found = budget(tmp_path, "")
    assert found.rungs == ladder(540) == Rungs((297, 540), (27, 49, 89, 163))
    spelled = budget(tmp_path, "rungs: {signals: [27, 49, 89, 163], full: [297, 540]}")
    assert spelled.budget_id == found.budget_id
    assert [tuple(ladder(steps)) for steps in (1, 2, 6)] == [(1,), (1, 2), (1, 2, 3, 6)]


def test_rungs_are_values():
    rungs = ladder(540)
    assert copy.deepcopy(rungs) == rungs
    assert rungs != Rungs(rungs) and Rungs((1, 2)) == (1, 2)
    assert described(rungs) == "rungs [297, 540], signals alone at [27, 49, 89, 163]"


@pytest.mark.parametrize(
    ("rungs", "expected"),
    [
        ("rungs: {signals: [27, 300], full: [300, 540]}", "rungs: got 300 as both kinds"),
        (
            "rungs: {signals: [60, 27], full: [300, 540]}",
            r"rungs: got signals at the steps \[60, 27\]; expected ascending steps below .*540",
        ),
        ("rungs: {signals: [541], full: [300, 540]}", r"rungs: got signals at the steps \[541\]"),
        ("rungs: {full: [300]}", r"rungs: got \[300\]; expected ascending steps that end at"),
        ("rungs: {signals: [27]}", "rungs.full: the key 'full' is missing"),
        (
            "rungs: {signal: [27], full: [300, 540]}",
            "rungs.signal: unknown key 'signal'; expected one of full, signals; did you mean 'sig",
        ),
        ("rungs: {signals: [x], full: [540]}", r"rungs.signals\[0\]: got \"x\""),
        ("rungs: 540", "rungs: got 540; expected a list"),
        (
            "rungs: {signals: [27], full: [300, 540]}\nsignals: null",
            r"rungs: got signals alone at \[27\], but signals: null; expected",
        ),
        ("rungs: [300, 540]\nsignals: {pairs: 1}", "signals.pairs: got 1; expected at least 8"),
        ("rungs: [300, 540]\nsignals: {pair: 9}", "signals.pair: unknown key .* mean 'pairs'"),
    ],
)
def test_bad_rungs_are_told_in_one_line(tmp_path, rungs, expected):
    with pytest.raises(ConfigError, match=rf"b\.yaml:\d+:\d+: {expected}") as error:
        budget(tmp_path, rungs)
    assert "\n" not in str(error.value)


def test_shares_are_of_full_rungs(tmp_path):
    with pytest.raises(ConfigError, match="got 2 shares; expected 1"):
        budget(tmp_path, "rungs: {signals: [27, 60], full: [300, 540]}", keep="[0.5, 0.5]")


def test_signals_at_their_defaults_leave_the_id(tmp_path):
    plain = budget(tmp_path, "rungs: [300, 540]")
    assert plain.signals is not None and plain.signal_pairs == plain.signals.pairs
    spelled = f"rungs: [300, 540]\nsignals: {{pairs: {plain.signals.pairs}, seed: 0}}"
    assert budget(tmp_path, spelled).budget_id == plain.budget_id
    other = budget(tmp_path, "rungs: [300, 540]\nsignals: {pairs: 16}")
    assert other.budget_id != plain.budget_id and other.signal_pairs == 16
    assert budget(tmp_path, "rungs: [300, 540]\nsignals: null").signal_pairs == 0


def test_users_pairs_are_held_out_by_the_metric_or_as_declared(tmp_path):
    text = (SHIPPED.parent / "paper_256.yaml").read_text()
    paper = load_budget(SHIPPED.parent / "paper_256.yaml")
    assert paper.held_out == paper.evaluation.prompts
    assert paper.signal_pairs == paper.signals.pairs
    file = tmp_path / "b.yaml"
    file.write_text(text.replace("  bad_share:", "  held_out: 64\n  bad_share:"))
    with pytest.raises(ConfigError, match=r"b\.yaml:\d+:\d+: data: got held_out 64 with the met"):
        load_budget(file)
