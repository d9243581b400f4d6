"""Answers from result files, and VQA models by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_t2i import plugins
from nas_t2i.data.embedded import shapes
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.embedded import pixels as shapes_vqa
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.tifa.files import read_questions
from nas_t2i.evaluation.tifa.types import Answer
from nas_t2i.evaluation.vqa import embedded_names, make_vqa_model
from nas_t2i.evaluation.vqa.recorded import RecordedAnswers
from nas_t2i.evaluation.vqa.shapes import PixelReader

FILES = Path(__file__).parents[2] / "fixtures" / "tifa"
IMAGE = Image.new("RGB", (4, 4))


def test_recorded_answers_are_found_by_prompt_and_question():
    questions = read_questions(FILES / "questions.json")
    recorded = make_vqa_model(f"recorded:{FILES / 'result.json'}")
    said = recorded.answer(IMAGE, questions)
    assert [a and a.text for a in said] == ["yes", "2", "roof", " Yes", "pottery", "kite"]
    other = {**questions[0], "id": "own_2"}
    assert recorded.answer(IMAGE, [other, questions[1]]) == [None, Answer("2")]


def test_likelihoods_are_of_the_choices_that_were_asked(tmp_path):
    row = {"free_form_vqa": "two", "likelihoods": [-1.0, "-inf"], "choices": ["one", "two"]}
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"question_details": {"0": {"how many?": row}}}))
    asked = {**read_questions(FILES / "questions.json")[0], "id": "0", "question": "how many?"}
    vqa_model = RecordedAnswers(file)
    same, others = asked | {"choices": ["one", "two"]}, asked | {"choices": ["two", "one"]}
    assert vqa_model.answer(IMAGE, [same]) == [Answer("two", (-1.0, float("-inf")))]
    assert vqa_model.answer(IMAGE, [others]) == [Answer("two")]


def test_who_answered_is_told_by_the_file_or_by_the_user(tmp_path):
    content = json.loads((FILES / "result.json").read_text())
    unnamed = RecordedAnswers(FILES / "result.json")
    assert unnamed.identity.startswith("recorded-")
    assert RecordedAnswers(FILES / "result.json", "mplug-large").identity == "recorded mplug-large"
    # The same answers are the same VQA model, whatever else the file holds.
    (tmp_path / "r.json").write_text(json.dumps(content | {"tifa_average": 0}))
    assert RecordedAnswers(tmp_path / "r.json").identity == unnamed.identity
    content["question_details"]["own_3"]["what does the boy fly?"]["free_form_vqa"] = "a bird"
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert RecordedAnswers(tmp_path / "r.json").identity != unnamed.identity
    (tmp_path / "r.json").write_text(json.dumps(content | {"answerer": "blip-123"}))
    assert RecordedAnswers(tmp_path / "r.json").identity == "blip-123"


def test_the_embedded_vqa_model_says_what_it_says_in_company():
    scenes = shapes.sample_scenes(3, "recorded-test", 40)
    images, questions = (
        shapes.render(scenes),
        questions_about(scenes, [str(n) for n in range(40)]),
    )
    rows = np.array([int(question["id"]) for question in questions])
    vqa_model = make_vqa_model("shapes")
    said = []
    for number in range(40):
        mine = [question for question in questions if int(question["id"]) == number]
        large = Image.fromarray(images[number]).resize((64, 64), Image.Resampling.NEAREST)
        alone = vqa_model.answer(Image.fromarray(images[number]), mine)
        assert alone == vqa_model.answer(large, mine)
        said += [answer.text for answer in alone]
    assert said == shapes_vqa.answer(images, rows, questions)


def test_the_embedded_vqa_model_is_asked_what_it_knows():
    questions = read_questions(FILES / "questions.json")
    with pytest.raises(ConfigError, match="not a question of the embedded benchmark"):
        PixelReader().answer(IMAGE, questions)


def test_the_embedded_kinds_are_those_that_answer_nothing_else():
    assert embedded_names() == ["learned", "learned3", "shapes"]
    assert set(plugins.builtin_names("vqa")) > set(embedded_names())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "blipp:x",
            "vqa: got 'blipp:x'; expected blip:MODEL, blip2:MODEL, git:MODEL, learned, "
            "learned3, recorded:FILE, shapes, vilt:MODEL; did you mean 'blip'?",
        ),
        ("blip", "vqa: got 'blip'; expected blip:MODEL"),
        ("recorded:", "vqa: got 'recorded:'; expected recorded:FILE"),
        ("shapes:x", "vqa: got 'shapes:x'; expected shapes"),
        ("recorded:gone.json", "gone.json: no such file"),
    ],
)
def test_a_bad_name_is_one_line(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        make_vqa_model(name)
    assert str(caught.value) == message
