"""TIFA's files: read as they are, judged with their lines, written with the numbers by hand."""

import json
from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.prompts import Prompt, read_prompts
from nas_t2i.evaluation.tifa.files import (
    read_questions,
    read_result,
    reference_result,
    write_reference,
)
from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.types import Answer, Detail, Mapped

FILES = Path(__file__).parents[2] / "fixtures" / "tifa"
ROW = {
    "id": "a",
    "caption": "A dog.",
    "question": "is there a dog?",
    "choices": ["yes", "no"],
    "answer": "yes",
    "element_type": "animal/human",
    "element": "dog",
}


def test_prompts_and_questions_as_published():
    assert read_prompts(FILES / "prompts.json") == [
        Prompt("own_1", "Two white goats on a roof.", "1234"),
        Prompt("own_2", "A clay jug beside a lamp."),
        Prompt("own_3", "A boy who flies a kite."),
    ]
    said = []
    questions = read_questions(FILES / "questions.json", said.append)
    assert said == []
    assert questions == json.loads((FILES / "questions.json").read_text())
    assert questions[0]["coco_val_id"] == "1234"


def test_ids_may_be_numbers(tmp_path):
    (tmp_path / "p.json").write_text('[{"id": 7, "caption": "A dog.", "coco_val_id": 12}]')
    assert read_prompts(tmp_path / "p.json") == [Prompt("7", "A dog.", "12")]
    (tmp_path / "q.json").write_text(json.dumps([ROW | {"id": 7}]))
    assert read_questions(tmp_path / "q.json")[0]["id"] == "7"


def lines(rows: list[object]) -> str:
    """One row a line, so that row n stands on line n + 1."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


def without(key: str) -> dict[str, object]:
    return {k: v for k, v in ROW.items() if k != key}


BAD_QUESTIONS = {
    "no list": (json.dumps(ROW), 'q.json:1:1: got {"id": "a", "caption": "A dog.", "question": '),
    "nothing": ("", "q.json:1:1: not whole JSON (Expecting value)"),
    "an empty list": (" []", "q.json: no questions in the list; expected one or more"),
    "no row": (lines([ROW, 3]), "q.json:3:1: [1]: got 3; expected a mapping of keys"),
    "cut": (lines([ROW])[:-1], "q.json:3:1: not whole JSON (Expecting ',' or ']')"),
    "more behind it": (lines([ROW]) + "x", "q.json:3:2: not whole JSON (Extra data)"),
    "a comma too many": (lines([ROW])[:-1] + ",]", "q.json:3:2: not whole JSON (Expecting value)"),
    "a key twice": (
        '[\n{"id": 3, "id": 3}]',
        "q.json:2:1: the key 'id' twice; expected each key once",
    ),
    "no finite number": (
        '[\n{"id": NaN}]',
        "q.json:2:1: got NaN, which is no JSON; expected a finite number",
    ),
    "half a character": (
        '[\n{"id": "\\ud83d"}]',
        "q.json:2:1: half of a character, '\\ud83d'; expected text that UTF-8 can spell",
    ),
    "no choices": (
        lines([ROW, without("choices")]),
        "q.json:3:1: [1]: the key 'choices' is missing",
    ),
    "a slip in a key": (
        lines([ROW, without("answer") | {"answr": "yes"}]),
        "q.json:3:1: [1]: the key 'answer' is missing; did you mean 'answr'?",
    ),
    "text for choices": (
        lines([ROW, ROW | {"choices": "yes, no"}]),
        'q.json:3:76: [1].choices: got "yes, no"; expected a list of text',
    ),
    "empty choices": (
        lines([ROW | {"choices": []}]),
        "q.json:2:76: [0].choices: got []; expected a list of text",
    ),
    "a number as a choice": (
        lines([ROW | {"choices": ["one", 2]}]),
        "q.json:2:76: [0].choices[1]: got 2; expected text",
    ),
    "an empty question": (
        lines([ROW | {"question": " "}]),
        'q.json:2:46: [0].question: got " "; expected some text',
    ),
    "another caption": (
        lines([ROW, ROW | {"id": "b"}, ROW | {"caption": "A cat."}]),
        "q.json:4:24: [2].caption: the id 'a' has another caption on line 2; "
        "expected one caption an id",
    ),
}


@pytest.mark.parametrize("what", BAD_QUESTIONS)
def test_bad_questions_are_one_line(tmp_path, monkeypatch, what):
    content, message = BAD_QUESTIONS[what]
    monkeypatch.chdir(tmp_path)
    Path("q.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_questions("q.json")
    assert str(caught.value) == message or str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_every_key_is_needed(tmp_path):
    for key in ROW:
        (tmp_path / "q.json").write_text(lines([without(key)]))
        with pytest.raises(ConfigError, match=f"the key '{key}' is missing"):
            read_questions(tmp_path / "q.json")


def test_what_is_odd_is_told_and_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        ROW,
        ROW | {"question": "what is there?", "choices": ["cat", "cow"], "answer": "dog"},
        ROW | {"choices": ["no", "yes"]},
        ROW | {"question": "what pet?", "choices": ["dog", "cat", "Dog"], "answer": "dog"},
        ROW | {"question": "is it a dog?", "element_type": "animal"},
        ROW | {"question": "is it a cat?", "element_type": "animal"},
    ]
    Path("q.json").write_text(lines(rows))
    said = []
    assert read_questions("q.json", said.append) == rows
    assert said == [
        'q.json:3:101: [1].answer: "dog" is none of the choices; the question can\'t be answered '
        "right",
        'q.json:4:46: [2].question: "is there a dog?" is asked of this caption already; the first '
        "time counts",
        'q.json:5:70: [3].choices: ["dog", "cat", "Dog"] leaves no choice, or has one twice',
        'q.json:6:121: [4].element_type: "animal" is no element type of TIFA\'s; did you mean '
        "'animal/human'?",
    ]


def test_a_file_full_of_oddities_does_not_flood(tmp_path):
    (tmp_path / "q.json").write_text(lines([ROW] * 100))
    said = []
    read_questions(tmp_path / "q.json", said.append)
    assert len(said) == 4
    assert said[-1].startswith("... and 96 more: question is asked of this caption already")


def test_an_error_among_as_many_questions_as_are_published_is_found(tmp_path):
    rows = [ROW | {"id": f"coco_{n // 6}", "question": f"question {n}?"} for n in range(26_000)]
    rows[-1] = rows[-1] | {"choices": [1]}
    (tmp_path / "q.json").write_text(json.dumps(rows, indent=4))
    with pytest.raises(ConfigError, match=r"q.json:311994:20: \[25999\].choices\[0\]: got 1"):
        read_questions(tmp_path / "q.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "p.json: no prompts in the list; expected one or more"),
        ("{}", "p.json:1:1: got {}; expected a list of prompts, each with id and caption"),
        ('[{"id": "a"}]', "p.json:1:2: [0]: the key 'caption' is missing"),
        ('[{"id": "", "caption": "x"}]', 'p.json:1:9: [0].id: got ""; expected some text'),
        ('[{"id": true, "caption": "x"}]', "p.json:1:9: [0].id: got true; expected text"),
        (
            '[{"id": "a", "caption": "x"},\n {"id": "a", "caption": "x"}]',
            "p.json:2:9: [1].id: the id 'a' a second time; expected each id once",
        ),
        (
            '[{"id": "a", "caption": "x", "coco_val_id": []}]',
            "p.json:1:45: [0].coco_val_id: got []; expected a COCO image id",
        ),
    ],
)
def test_bad_prompts_are_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("p.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_prompts("p.json")
    assert str(caught.value) == message


def test_a_file_that_is_not_there_has_neighbours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("questions.json").write_text("[]")
    with pytest.raises(ConfigError) as caught:
        read_questions("question.json")
    assert str(caught.value) == "question.json: no such file; did you mean 'questions.json'?"
    Path("latin.json").write_bytes(b'["caf\xe9"]')
    with pytest.raises(ConfigError, match=r"latin.json: not UTF-8 text \(byte 5\)"):
        read_questions("latin.json")


def test_the_answers_of_a_result():
    recorded = read_result(FILES / "result.json")
    assert recorded.vqa_model == ""
    assert {key: answer.text for key, answer in recorded.answers.items()} == {
        ("own_1", "are there goats?"): "yes",
        ("own_1", "how many goats are there?"): "2",
        ("own_1", "where are the goats?"): "roof",
        ("own_2", "is there a jug?"): " Yes",
        ("own_2", "what is the jug made of?"): "pottery",
        ("own_3", "what does the boy fly?"): "kite",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "r.json:1:1: got []; expected a result of TIFA, with question_details"),
        ('{"tifa_average": 1}', "r.json:1:1: no question_details; expected a result of TIFA"),
        (
            '{"question_details": {"a": []}}',
            "r.json:1:28: question_details.a: got []; expected questions by text",
        ),
        (
            '{"question_details": {"a":\n {"is it?": {"free_form_vqa": 1}}}}',
            "r.json:2:31: question_details.a.is it?.free_form_vqa: got 1; expected text",
        ),
        (
            '{"question_details": {"a": {"is it?":\n'
            ' {"free_form_vqa": "yes", "likelihoods": [-1], "choices": ["yes", "no"]}}}}',
            "r.json:2:42: question_details.a.is it?.likelihoods: got [-1]; expected a number for "
            "each choice",
        ),
    ],
)
def test_a_bad_result_is_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("r.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_result("r.json")
    assert str(caught.value) == message


def details(name: str = "questions.json") -> list[Detail]:
    answers = read_result(FILES / "result.json").answers
    found = []
    for question in read_questions(FILES / name):
        answer = answers[question["id"], question["question"]]
        found.append(Detail(question, answer, ExactMapping().map(answer, question["choices"])))
    return found


def test_the_reference_layout_letter_for_letter(tmp_path):
    # Its numbers are worked out by hand: captions 3/3, 1/2 and 1/1; their mean is 2.5/3, their
    # sample standard deviation sqrt((2 * (1/6)^2 + (1/3)^2) / 2) = sqrt(1/12).
    file = tmp_path / "result.json"
    write_reference(file, details())
    written, expected = (json.loads(f.read_text()) for f in (file, FILES / "result.json"))
    assert written == expected
    assert json.dumps(written) == json.dumps(expected)  # order and 1 against 1.0 too
    assert written["tifa_stdev"] == pytest.approx((1 / 12) ** 0.5)


def test_one_caption_has_no_deviation():
    one = reference_result(details()[:3])
    assert (one["tifa_average"], one["tifa_stdev"]) == (1, None)
    assert reference_result([])["tifa_average"] is None


def test_a_caption_without_all_its_answers_is_left_out():
    some = details()
    some[4] = Detail(some[4].question, missing="no answer")
    result = reference_result(some)
    assert list(result["question_details"]) == list(result["caption_scores"]) == ["own_1", "own_3"]
    assert result["tifa_average"] == 1
    assert "material" not in result["accuracy_by_type"]


def test_right_is_what_reads_as_the_gold_answer():
    (detail, *_) = details()
    gold = {**detail.question, "answer": " YES", "choices": ["yes", "no"]}
    for choice, correct in (("yes", True), ("no", False), ("", False)):
        assert Detail(gold, Answer("?"), Mapped(choice, "exact")).correct is correct
    assert not Detail(gold, missing="missing").correct
