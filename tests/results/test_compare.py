"""Two results against each other: what is paired, what is refused, what is told."""

import json
import math

import numpy as np
import pytest

from nas_t2i.errors import IncomparableError, RecordError, UserError
from nas_t2i.ranking.noise import PRIOR_DEVIATION
from nas_t2i.ranking.scale import Scale
from nas_t2i.records import TrialState
from nas_t2i.results.beliefs import beliefs
from nas_t2i.results.comparands import Repeats, Result, load_results
from nas_t2i.results.compare import compare, unlike_parts
from nas_t2i.results.entries import group_entries
from nas_t2i.store import read_trials
from tests.results.record_factory import HELD_OUT, prompt_scores, score, study, trial, write_records


def result(name, per_prompt, **changes):
    rows = np.atleast_2d(np.array(per_prompt, dtype=float))
    scored = changes.pop("scored", {})
    first = [value for value in rows[0] if not math.isnan(value)]
    made = score([*first, *first], **scored)  # one alone has no standard error
    return Result(name, made, rows, **changes)


# --- what two results say --------------------------------------------------------------------


def test_prompts_are_paired_by_their_ids_and_the_rest_is_left_out():
    a = result("a", [1.0, 0.5, 0.75], prompts=("x", "y", "z"))
    b = result("b", [0.5, 0.25, 0.0, math.nan], prompts=("z", "x", "w", "y"))
    found = compare(a, b)
    # Common are x (1.0 against 0.25) and z (0.75 against 0.5).
    assert found.common == 2 and found.left_out == (1, 2)
    assert found.scores == pytest.approx((0.875, 0.375))
    assert found.difference.value == pytest.approx(0.5)
    # Two differences, 0.75 and 0.25: a resampled mean is one of them or their mean.
    assert (found.difference.low, found.difference.high) == pytest.approx((0.25, 0.75))
    assert found.verdict == "a is better: the 95 % interval over prompts excludes 0."
    assert compare(b, a).verdict.startswith("a is better")


def test_without_ids_the_order_of_the_prompts_pairs_them():
    found = compare(result("a", [1.0, math.nan, 0.5]), result("b", [0.5, 0.5, 0.5]))
    assert found.common == 2 and found.left_out == (1, 1)
    assert found.difference.value == pytest.approx(0.25)
    with pytest.raises(IncomparableError, match="a has scores of 2 prompts, b of 3, and not both"):
        compare(result("a", [1.0, 0.5]), result("b", [0.5, 0.5, 0.5]))


def test_equal_results_cant_be_told_apart_and_one_prompt_tells_nothing():
    same = prompt_scores(0.5)
    assert compare(result("a", same), result("b", same)).verdict == (
        "Can't be told apart: the 95 % interval over prompts includes 0."
    )
    assert (
        "one common prompt gives no interval"
        in compare(result("a", [1.0]), result("b", [0.0])).verdict
    )


def test_what_was_not_measured_alike_is_refused_by_the_part_that_differs():
    a = result("a", [1.0], scored={"signature": "tifa|vqa=blip|questions=1|seed=0"})
    b = result("b", [1.0], scored={"signature": "tifa|vqa=vilt|questions=1|ddim6"})
    with pytest.raises(IncomparableError) as caught:
        compare(a, b)
    assert str(caught.value) == (
        "a and b were not measured alike: vqa=blip against vqa=vilt, seed=0 against nothing, "
        "nothing against ddim6"
    )
    with pytest.raises(IncomparableError, match="a is scored by tifa, b by heldout_r2"):
        compare(result("a", [1.0]), result("b", [1.0], scored=HELD_OUT))
    with pytest.raises(IncomparableError, match="no scored prompt in common"):
        compare(result("a", [1.0], prompts=("x",)), result("b", [1.0], prompts=("y",)))


@pytest.mark.parametrize("one, other, told", [
    ("m|a=1|b=2", "m|a=1|b=3", "b=2 against b=3"),
    ("m|ddim6", "m|ddim50", "ddim6 against ddim50"),
    ("m", "n", "m against n"),
    ("m|a=x=1", "m|a=x=2", "a=x=1 against a=x=2"),
])  # fmt: skip
def test_unlike_parts(one, other, told):
    assert unlike_parts(one, other) == told


def test_seeds_are_averaged_on_each_prompt_and_repeats_widen_the_interval():
    draw = np.random.default_rng(0).normal
    prompts = np.clip(draw(0.5, 0.2, 80), 0.15, 0.8)
    # The seed's effect is +-0.1 on all prompts, of every second one the other way round: only
    # repeats can see it.
    luck = np.array([[0.1], [-0.1]])
    rows = {str(i): prompts + draw(0, 0.01, (2, 80)) + (-1) ** i * luck for i in range(4)}
    a = result(
        "a",
        rows["1"] + 0.05,
        seeds=(0, 1),
        repeats={("s", k): Repeats((0, 1), v) for k, v in rows.items()},
    )
    b = result("b", rows["1"], seeds=(0, 1), repeats={("s", "0"): Repeats((0, 1), rows["0"])})
    found = compare(a, b)
    assert found.difference.value == pytest.approx(0.05, abs=0.01)
    assert not found.difference.includes_zero
    # Half of it is the prior's 0.41 on the logit above chance.
    assert found.seeds.repeats == 4 and 0.12 < found.seeds.deviation < 0.17
    # Student's t with 8 degrees of freedom: 2.306 times the deviation times sqrt(1/2 + 1/2), less
    # what the same seeds do to both.
    width = found.seeds.difference.high - found.seeds.difference.low
    assert width == pytest.approx(2 * 2.306 * found.seeds.deviation / 1.2**0.5, rel=0.15)
    assert found.seeds.difference.value == found.difference.value
    assert (
        found.verdict == "Can't be told apart: the 95 % interval over prompts and seeds includes 0."
    )
    assert found.notes == []


def test_what_a_seed_does_to_all_is_no_difference_of_two():
    draw = np.random.default_rng(0).normal
    prompts = np.clip(draw(0.5, 0.2, 80), 0.15, 0.8)
    rows = [prompts + draw(0, 0.01, (2, 80)) + [[0.1], [-0.1]] for _ in range(8)]
    repeats = {("s", str(i)): Repeats((0, 1), table) for i, table in enumerate(rows)}
    lucky = compare(
        result("a", rows[0][:1], seeds=(0,), repeats=repeats),
        result("b", rows[1][1:], seeds=(1,), repeats=repeats),
    )
    assert lucky.difference.value == pytest.approx(0.2, abs=0.01)
    assert not lucky.difference.includes_zero and lucky.decisive.includes_zero
    assert -0.1 < (lucky.decisive.low + lucky.decisive.high) / 2 < 0.1


def test_without_repeats_the_prior_of_rankings_speaks():
    a = result("a", prompt_scores(0.5), seeds=(0,))
    found = compare(a, result("b", prompt_scores(0.6), seeds=(0,)))
    assert found.seeds.repeats == 0
    assert found.seeds.deviation == pytest.approx(
        1.2**0.5 * PRIOR_DEVIATION / Scale(found.first.score.chance).slope(np.mean(found.scores))
    )
    assert found.seeds.difference.includes_zero and not found.difference.includes_zero


def test_of_a_file_nothing_is_known_of_its_training():
    rows = np.array([prompt_scores(0.5), prompt_scores(0.6)])
    found = compare(
        result("a", rows, seeds=(0, 1), repeats={("s",): Repeats((0, 1), rows)}),
        result("b", rows[0]),
    )
    assert found.seeds is None and "holds no noise between seeds" in found.notes[0]


def test_a_comparison_says_what_the_ranking_of_the_study_says(root_of_pairs):
    entries = group_entries(read_trials(root_of_pairs / "demo"))
    believed = beliefs(entries)
    names = [entry.first.name for entry in entries]
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            found = compare(*load_results(f"demo/{one}", f"demo/{other}", root_of_pairs))
            assert found.decisive.includes_zero == (j in believed[i].tied_with)


@pytest.fixture
def root_of_pairs(tmp_path):
    draw = np.random.default_rng(0)
    levels = {"A": 0.5, "B": 0.55, "C": 0.7, "D": 0.8, "E": 0.82}
    made = [
        trial(name, {200: list(draw.beta(8 * level, 8 * (1 - level), 60))}, seed=seed)
        for name, level in levels.items()
        for seed in range(2)
    ]
    write_records(tmp_path / "demo", study(), made)
    return tmp_path


def answered(*rows):
    return {(prompt, text): (kind, float(right)) for prompt, text, kind, right in rows}


def test_element_types_are_compared_over_the_questions_that_both_have():
    a = result(
        "a", [1.0, 0.5], prompts=("x", "y"),
        correct=answered(("x", "1", "color", 1), ("x", "2", "color", 1), ("y", "1", "color", 1),
                    ("y", "2", "shape", 0), ("y", "3", "shape", 1)),
    )  # fmt: skip
    b = result(
        "b", [0.0, 0.5], prompts=("x", "y"),
        correct=answered(("x", "1", "color", 0), ("x", "2", "color", 0), ("y", "1", "color", 1),
                    ("y", "2", "shape", 1)),
    )  # fmt: skip
    color, shape = compare(a, b).by_type
    assert (color.element_type, color.questions) == ("color", 3)
    assert (color.first, color.second) == pytest.approx((1.0, 1 / 3))
    assert color.difference.value == pytest.approx(2 / 3)
    # Prompts are drawn with all their questions: differences of 1 (x), 0 (y) and 2/3 (both).
    assert (color.difference.low, color.difference.high) == pytest.approx((0.0, 1.0))
    assert (shape.element_type, shape.questions, shape.difference.value) == ("shape", 1, -1.0)
    assert math.isnan(shape.difference.low)


def test_without_single_questions_types_have_no_interval():
    a = result("a", [1.0, 0.5], by_type={"color": 0.9, "shape": 0.5})
    b = result("b", [1.0, 0.5], by_type={"color": 0.7, "counting": 0.1})
    (color,) = compare(a, b).by_type
    assert color.difference.value == pytest.approx(0.2)
    assert math.isnan(color.difference.low) and color.questions is None


# --- trials ----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    def flat(value):
        return [value] * 10

    made = [
        trial("A", {100: flat(0.5), 200: flat(0.8)}, seed=0),
        trial("A", {100: flat(0.6), 200: flat(0.9)}, seed=1),
        trial("B", {100: flat(0.5)}, seed=0, state=TrialState.STOPPED),
        trial("B", {100: flat(0.3), 200: flat(0.7)}, seed=1, state=TrialState.FAILED),
        trial("blind", {200: flat(0.3)}, control="no-cross-attention", arch_id="unet-a"),
        trial("silent", {}),
    ]
    write_records(tmp_path / "demo", study(), made[:4] + made[5:])
    write_records(tmp_path / "controls", study("controls"), [made[4]])
    return tmp_path


def test_all_seeds_at_the_last_rung_that_both_have(root):
    a, b = load_results("demo/A", "demo/B", root)
    # One of B's seeds was stopped at 100: that is where B stands.
    assert (a.name, b.name) == ("demo/A:100", "demo/B:100")
    assert a.seeds == b.seeds == (0, 1)
    found = compare(a, b)
    assert found.scores == pytest.approx((0.55, 0.4))
    # B's two, one of them at chance, don't count.
    assert found.seeds.repeats == 1
    assert "demo/B: seed 1 failed at step 200" in found.notes


@pytest.mark.parametrize("first, second, steps, seeds", [
    ("demo/A@1", "demo/A@0", (200, 200), ((1,), (0,))),
    ("demo/A@1:100", "demo/A@0", (100, 100), ((1,), (0,))),
    ("demo/A:100", "demo/A:200", (100, 200), ((0, 1), (0, 1))),
    ("demo/unet-a", "controls/blind [no-cross-attention]", (200, 200), ((0, 1), (0,))),
])  # fmt: skip
def test_a_seed_a_step_an_id_and_a_control_can_be_named(root, first, second, steps, seeds):
    a, b = load_results(first, second, root)
    assert (a.step, b.step) == steps and (a.seeds, b.seeds) == seeds
    told = any("unlike numbers of steps: 100 and 200" in note for note in compare(a, b).notes)
    assert told == (steps[0] != steps[1])


def test_studies_are_found_by_folder_too_and_budgets_are_told(root):
    other = trial("A", {200: [0.8] * 10}, budget_id="long-1")
    record = study("other")
    write_records(root / "deep" / "other", record, [other])
    a, b = load_results(f"{root}/deep/other/A", "demo/A", root)
    assert "unlike budgets (long-1 and embedded-1)" in compare(a, b).notes[0]


@pytest.mark.parametrize("text, error, told", [
    ("demo", UserError, "got 'demo'; expected STUDY/NAME"),
    ("dema/A", RecordError, "dema: no such study .* did you mean 'demo'"),
    ("demo/AA", RecordError, "demo: no architecture 'AA'; expected one of A, B, silent"),
    ("demo/A@7", RecordError, "demo/A@7: no such seed; expected one of 0, 1"),
    ("demo/A:150", RecordError, "demo/A: no score at step 150; expected one of 100, 200"),
    ("demo/silent", RecordError, "demo/silent: has no score yet"),
    ("nowhere.json", RecordError, "nowhere.json: no such file"),
])  # fmt: skip
def test_what_is_not_there_is_one_line(root, text, error, told):
    with pytest.raises(error, match=told) as caught:
        load_results(text, "demo/A", root)
    assert "\n" not in str(caught.value)


def test_without_a_common_step_one_has_to_be_named(root):
    write_records(root / "late", study("late"), [trial("A", {300: [0.5] * 10})])
    with pytest.raises(RecordError, match=r"no step .* \(demo/A: 100, 200; late/A: 300\)"):
        load_results("demo/A", "late/A", root)
    a, b = load_results("demo/A:200", "late/A:300", root)
    assert (a.step, b.step) == (200, 300)


def test_of_several_metrics_one_is_named(root):
    made = trial("A", {200: [0.5] * 10})
    (point,) = made.curve
    both = {**point.scores, "heldout_r2": score([0.1] * 10, **HELD_OUT)}
    made = made.model_copy(update={"curve": [point.model_copy(update={"scores": both})]})
    write_records(root / "two", study("two"), [made])
    with pytest.raises(UserError, match=r"several metrics; .* --metric: heldout_r2, tifa"):
        load_results("two/A", "demo/A", root)
    a, _ = load_results("two/A", "demo/A", root, "tifa")
    assert a.score.metric == "tifa"
    with pytest.raises(RecordError, match=r"no score of the metric 'tifo'.*did you mean 'tifa'"):
        load_results("two/A", "demo/A", root, "tifo")


# --- result files ----------------------------------------------------------------------------


def write_result(file, per_prompt, **data):
    made = score(per_prompt, **data.pop("scored", {}))
    question = {"element_type": "color", "answer": "red", "scored": True, "missing": ""}
    content = {
        "version": 1,
        "score": json.loads(made.model_dump_json()),
        "prompts": [f"p{i}" for i in range(len(per_prompt))],
        "question_details": {
            f"p{i}": {"what?": {**question, "scores": int(value)}}
            for i, value in enumerate(per_prompt)
        }
        | {"lost": {"what?": {**question, "scores": None, "scored": False}}},
    }
    file.write_text(json.dumps(content | data))
    return str(file)


def test_result_files_are_compared_question_by_question(tmp_path):
    a = write_result(tmp_path / "a.json", [1.0] * 8 + [0.0] * 2)
    b = write_result(tmp_path / "b.json", [0.0] * 8 + [0.0] * 2 + [1.0])
    found = compare(*load_results(a, b))
    assert found.common == 10 and found.left_out == (0, 1)
    assert found.difference.value == pytest.approx(0.8)
    (color,) = found.by_type
    assert color.questions == 10 and color.difference.value == pytest.approx(0.8)
    assert 0 < color.difference.low < 0.8 < color.difference.high
    assert found.verdict.startswith(f"{a} is better")


def write_evaluation(file, **results):
    """A file of several metrics: name -> (metric of the score, scores, what else is said)."""
    content = {
        "version": 1,
        "kind": "evaluation",
        "results": [
            {
                "metric": asked,
                "score": per_prompt
                and json.loads(score(per_prompt, metric=name).model_dump_json()),
                "prompts": [f"p{i}" for i, _ in enumerate(per_prompt or [])],
                **more,
            }
            for asked, (name, per_prompt, more) in results.items()
        ],
    }
    file.write_text(json.dumps(content))
    return str(file)


def test_of_a_file_with_several_metrics_one_is_named(tmp_path):
    values = [0.5, 0.25]
    many = write_evaluation(
        tmp_path / "many.json",
        tifa=("tifa", values, {"better": "larger"}),
        clip=("clip_score", values, {"better": "larger"}),
        fid=("fid", None, {"better": "smaller"}),
        hps=("hps_v2.1", None, {}),
    )
    with pytest.raises(UserError, match=r"several metrics; .* --metric: clip_score, tifa$"):
        load_results(many, many)
    for name in ("clip", "clip_score"):
        a, b = load_results(many, many, metric=name)
        assert a.score.metric == b.score.metric == "clip_score" and a.prompts == ("p0", "p1")
    one = write_evaluation(tmp_path / "one.json", clip=("clip_score", values, {}))
    assert load_results(one, one)[0].score.metric == "clip_score"
    with pytest.raises(RecordError, match="no score of the metric 'fid'; expected one of clip_s"):
        load_results(many, one, metric="fid")
    none = write_evaluation(tmp_path / "none.json", fid=("fid", None, {"better": "smaller"}))
    with pytest.raises(RecordError, match="no metric with a score of each prompt"):
        load_results(none, none)


@pytest.mark.parametrize("change, told", [
    ({"score": None}, "holds no score"),
    ({"prompts": ["p0"]}, "1 prompts, but scores of 2; expected as many"),
    ({"version": 9}, "a record of version 9"),
    ({"scored": {"per_prompt": []}}, "no metric with a score of each prompt"),
    ({"score": {"metric": "tifa"}}, "score.value: "),
])  # fmt: skip
def test_a_file_that_says_too_little_is_refused(tmp_path, change, told):
    file = tmp_path / "a.json"
    write_result(file, [1.0, 0.0], **change)
    if change == {"score": None}:
        file.write_text(json.dumps({"tifa_average": 0.5, "question_details": {}}))
    with pytest.raises(RecordError, match=told) as caught:
        load_results(str(file), str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(tmp_path, number):
    file = tmp_path / "result.json"
    broken = score([0.5, 0.25]).model_copy(update={"per_prompt": [0.5, number]})
    file.write_text(f'{{"score": {broken.model_dump_json()}}}')
    with pytest.raises(RecordError, match=r"score\.per_prompt\[1\]: got .*expected a finite"):
        load_results(str(file), str(file), tmp_path, "")
