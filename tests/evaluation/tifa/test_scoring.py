import statistics

import pytest

from nas_t2i.evaluation.tifa.scoring import no_image_baseline, score_correct


def ask(caption_id: str, answer: str, kind: str = "color"):
    return {
        "id": caption_id,
        "answer": answer,
        "element_type": kind,
        "question": "?",
        "caption": "",
    }


def test_captions_weigh_the_same_whatever_their_number_of_questions():
    questions = [
        ask("a", "red"),
        ask("a", "two", "counting"),
        ask("a", "red"),
        ask("b", "yes", "object"),
    ]
    score = score_correct(questions, [True, True, False, False], chance=0.25, signature="s")
    assert score.per_prompt == pytest.approx([2 / 3, 0.0], abs=1e-6)
    assert score.value == pytest.approx(1 / 3)
    assert score.stderr == pytest.approx(statistics.stdev([2 / 3, 0.0]) / 2**0.5)
    assert score.by_type == {"color": 0.5, "counting": 1.0, "object": 0.0}
    assert (score.n, score.chance, score.signature) == (2, 0.25, "s")


def test_every_question_needs_an_answer():
    with pytest.raises(ValueError, match="shorter"):
        score_correct([ask("a", "red"), ask("b", "red")], [True], chance=None, signature="s")


def test_captions_without_a_score_are_only_counted():
    score = score_correct([ask("a", "x")], [True], chance=None, signature="s", n_missing=3)
    assert (score.value, score.n, score.n_missing) == (1, 1, 3)


def asked(caption_id: str, answer: str, *choices: str):
    return {**ask(caption_id, answer), "choices": list(choices)}


def test_who_does_not_look_still_knows_what_is_mostly_true():
    questions = [
        asked("a", "yes", "Yes", "no"),
        asked("a", "red", "red", "green", "blue", "grey"),
        asked("b", "yes", "no", "yes"),
        asked("b", "no", "no", "yes"),
    ]
    # Always yes: (1 + 1/4) / 2 and (1 + 0) / 2. Always no earns (0 + 1/4) / 2 and 1/2.
    assert no_image_baseline(questions) == pytest.approx((0.625 + 0.5) / 2)
    opposite = [
        {**q, "answer": {"yes": "no", "no": "yes"}.get(q["answer"], q["answer"])} for q in questions
    ]
    assert no_image_baseline(opposite) == no_image_baseline(questions)
    assert no_image_baseline([asked("a", "pink", "red", "blue")]) == 0
