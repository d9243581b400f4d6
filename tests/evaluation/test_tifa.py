import statistics

import pytest

from nas_t2i.evaluation.tifa import tifa_score


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
    score = tifa_score(questions, ["red", "two", "blue", "no"], chance=0.25, signature="s")
    assert score.per_prompt == pytest.approx([2 / 3, 0.0], abs=1e-6)
    assert score.value == pytest.approx(1 / 3)
    assert score.stderr == pytest.approx(statistics.stdev([2 / 3, 0.0]) / 2**0.5)
    assert score.by_type == {"color": 0.5, "counting": 1.0, "object": 0.0}
    assert (score.n, score.chance, score.signature) == (2, 0.25, "s")


def test_every_question_needs_an_answer():
    with pytest.raises(ValueError, match="shorter"):
        tifa_score([ask("a", "red"), ask("b", "red")], ["red"], chance=None, signature="s")
