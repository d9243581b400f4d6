import io
import json

import pytest

from nas_t2i.cli.reliability import reliability_command, to_markdown
from nas_t2i.errors import IncomparableError, RecordError
from nas_t2i.records import TrialState
from nas_t2i.results.reliability import assess
from tests.results.record_factory import HELD_OUT, study, trial, write_records

# (40 % rung, last rung) of two seeds.
TABLE = {
    "A": ([0.50, 0.90], [0.52, 0.92]),
    "B": ([0.60, 0.80], [0.58, 0.82]),
    "C": ([0.40, 0.70], [0.42, 0.68]),
    "D": ([0.30, 0.50], [0.32, 0.52]),
}


def flat(value: float) -> list[float]:
    return [value] * 10


def trials(scored=None, **changes):
    made = [
        trial(name, {100: flat(early), 200: flat(late)}, seed=seed, scored=scored, **changes)
        for name, seeds in TABLE.items()
        for seed, (early, late) in enumerate(seeds)
    ]
    blind = trial(
        "A blind",
        {200: flat(0.35)},
        scored=scored,
        control="no-cross-attention",
        arch_id="unet-blind",
    )
    return [*made, blind]


def test_spread_agreement_and_controls_come_out_as_by_hand():
    found = assess(trials())
    assert found.names == ["A", "B", "C", "D"]
    assert found.spread.within == pytest.approx(0.0141421, abs=1e-6)
    assert found.spread.ratio(2) == pytest.approx(found.spread.ratio() * 2**0.5)
    assert found.spread_better_half.architectures == 2
    (early,) = found.agreements
    assert early.step == 100
    assert early.with_last == pytest.approx(0.8)  # A and B swap places of four
    assert early.with_last_better_half == pytest.approx(-1.0)
    assert found.between_seeds == pytest.approx([1.0])
    (control,) = found.controls
    assert control.score == pytest.approx(control.chance) == pytest.approx(0.35)
    assert found.worst == pytest.approx(0.51)


def test_rungs_with_signals_alone_change_nothing():
    def with_cheap_rungs(known):
        cheap = [known.curve[0].model_copy(update={"step": s, "scores": {}}) for s in (10, 150)]
        curve = sorted([*known.curve, *cheap], key=lambda point: point.step)
        return known.model_copy(update={"curve": curve})

    ended_early = trial("Z", state=TrialState.STOPPED, control="stopped", arch_id="unet-z")
    ended_early = ended_early.model_copy(update={"curve": with_cheap_rungs(trials()[0]).curve[:1]})
    found = assess([*map(with_cheap_rungs, trials()), ended_early])
    plain = assess(trials())
    assert found.scores.tolist() == plain.scores.tolist()
    assert (found.steps, found.agreements) == (plain.steps, plain.agreements)
    assert found.controls == plain.controls


def test_it_needs_repeats_that_ran_to_the_end():
    with pytest.raises(RecordError, match="3 or more architectures with the same 2 or more seeds"):
        assess(trials(state=TrialState.STOPPED))


def test_the_report_is_printed_and_written(tmp_path, capsys):
    write_records(tmp_path / "demo", study(), trials())
    reliability_command("demo", tmp_path, None)
    out = capsys.readouterr().out
    assert "Spearman of step 100 with the last: 0.80" in out
    assert "- scores: TIFA, " in out
    assert "chance 0.350, below the last architecture" in out and "NOT below" not in out
    reliability_command("demo", tmp_path, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["names"] == ["A", "B", "C", "D"]
    reliability_command("demo", tmp_path, tmp_path / "r.md")
    assert (tmp_path / "r.md").read_text() == to_markdown(assess(trials()), "demo")


def test_controls_of_a_metric_without_chance_are_shown_without_a_verdict(tmp_path, capsys):
    record = study(metric="heldout_r2", chance=None)
    write_records(tmp_path / "demo", record, trials(scored=HELD_OUT))
    reliability_command("demo", tmp_path, None)
    out = capsys.readouterr().out
    assert "- scores: held-out R², " in out
    assert "- control A blind: 0.350 ± 0.000\n" in out
    assert "chance" not in out and "below" not in out
    reliability_command("demo", tmp_path, tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text())
    (control,) = written["controls"]
    assert (written["metric"], control["score"], control["chance"]) == ("heldout_r2", 0.35, None)


def test_a_plain_screen_gets_plain_text(tmp_path, monkeypatch):
    write_records(tmp_path / "demo", study(), trials(scored=HELD_OUT))
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr("sys.stdout", screen)
    reliability_command("demo", tmp_path, None)
    screen.flush()
    assert b"- scores: held-out R^2, " in screen.buffer.getvalue()


def test_scores_of_two_metrics_are_not_compared():
    with pytest.raises(IncomparableError, match=r"different metrics .*: tifa .* and heldout_r2 "):
        assess([*trials(), *trials(scored=HELD_OUT)])
