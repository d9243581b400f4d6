import io
import json
import math

import numpy as np
import pytest

from nas_t2i.cli.results.reliability import reliability_command, to_markdown
from nas_t2i.errors import IncomparableError, RecordError
from nas_t2i.records import Signal, TrialState
from nas_t2i.results.correlations import partial, spearman_interval
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


def test_every_signal_and_rung_is_held_against_the_final_score():
    def with_signals(known):
        (first, last), final = known.curve, known.curve[-1].scores["tifa"].value
        loss = signal("heldout_loss", 1 - final)
        gain = signal("text_gain", known.profile.params / 1e9)
        points = [first.model_copy(update={"step": 10, "scores": {}, "signals": {loss.name: loss}})]
        points += [first, last.model_copy(update={"signals": {loss.name: loss, gain.name: gain}})]
        return known.model_copy(update={"curve": points})

    sizes = {"A": 10, "B": 8, "C": 6, "D": 4}
    sized = [t if t.control else trial_of_size(t, sizes[t.name]) for t in trials()]
    found = assess([with_signals(t) if not t.control else t for t in sized])
    rows = {(row.quantity, row.step): row for row in found.early}
    assert list(rows) == [
        *(("tifa", 100), ("tifa", 200)),
        *(("heldout_loss", 10), ("heldout_loss", 200), ("text_gain", 200)),
    ]
    assert rows["tifa", 100].spearman.value == pytest.approx(0.8)
    assert rows["tifa", 100].kendall.value == pytest.approx(2 / 3)  # one pair of six is turned
    assert rows["tifa", 200].spread == pytest.approx(found.spread.ratio())
    loss = rows["heldout_loss", 10]  # smaller is better: turned round
    assert loss.spearman.value == loss.kendall.value == loss.spearman_one_seed == pytest.approx(1)
    assert loss.spearman.low <= 1 <= loss.spearman.high
    assert math.isnan(rows["text_gain", 200].given_size)  # four architectures, and it is the size


def test_of_several_families_a_signal_is_held_against_the_score_within_each(tmp_path, capsys):
    """The transformers have the larger losses and the better scores."""

    def with_loss(known, offset):
        (_, last), final = known.curve, known.curve[-1].scores["tifa"].value
        loss = signal("heldout_loss", offset - final)
        cheap = last.model_copy(update={"step": 10, "scores": {}, "signals": {loss.name: loss}})
        return known.model_copy(update={"curve": [cheap, *known.curve]})

    unets = [with_loss(t, 1) for t in trials() if not t.control]
    better = {
        name: [(e + 0.05, f + 0.05) for e, f in seeds]
        for name, seeds in TABLE.items()
        if name > "A"
    }
    transformers = [
        with_loss(
            trial(
                f"T{name}",
                {100: flat(early), 200: flat(late)},
                seed=seed,
                family="pixart",
                arch_id=f"pixart-{name}",
            ),
            3,
        )
        for name, seeds in better.items()
        for seed, (early, late) in enumerate(seeds)
    ]
    found = assess([*unets, *transformers])
    (loss,) = (row for row in found.early if row.quantity == "heldout_loss")
    assert found.families == {"pixart": 3, "unet": 4}
    assert {name: of.value for name, of in loss.within.items()} == {"pixart": 1, "unet": 1}
    assert loss.spearman.value < 0.6
    assert assess(unets).early[0].within == {}
    # A family of two has no correlation, and is counted.
    few = assess([*unets, *(t for t in transformers if t.name != "TB")])
    assert set(few.early[0].within) == {"unet"} and few.families["pixart"] == 2

    write_records(tmp_path / "demo", study(), [*unets, *transformers])
    reliability_command("demo", tmp_path, None)
    out = capsys.readouterr().out
    assert "all (7)," in out and "pixart (3)," in out and "unet (4)," in out
    reliability_command("demo", tmp_path, tmp_path / "r.json")
    (*_, last) = json.loads((tmp_path / "r.json").read_text())["early"]
    assert last["within"]["unet"]["value"] == 1
    assert "| held-out loss | 10 | 0." in (markdown := to_markdown(found, "demo"))
    assert "all (7), 95 % | pixart (3), 95 % | unet (4), 95 % |" in markdown


def test_what_size_says_already_is_taken_out():
    generator = np.random.default_rng(0)
    size, other, own = generator.normal(size=(3, 2000))
    final = size + other
    assert partial(size + own, final, [size]) == pytest.approx(0, abs=0.06)
    assert partial(size + other, final, [size]) == pytest.approx(1)
    found = spearman_interval(size[:40], final[:40])
    assert found.low < found.value < found.high and found == spearman_interval(
        size[:40], final[:40]
    )
    assert found.high - found.low < 0.7


def signal(name, value):
    return Signal(name=name, value=value, stderr=0.1, n=8, signature="s")


def trial_of_size(known, size):
    profile = known.profile.model_copy(update={"params": size, "gmacs": float(size)})
    return known.model_copy(update={"profile": profile})


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
