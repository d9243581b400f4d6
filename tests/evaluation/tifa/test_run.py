"""TIFA from questions and images to a score: asked once, stopped anywhere, counted right."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_t2i.data.embedded import shapes
from nas_t2i.errors import ConfigError, StorageError
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.embedded import pixels as shapes_vqa
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.tifa.files import read_questions, read_result, reference_result
from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.run import Looked, TifaOutcome, ask, result, score
from nas_t2i.evaluation.tifa.types import Answer, Mapped, Question
from nas_t2i.evaluation.vqa import make_vqa_model
from nas_t2i.evaluation.vqa.recorded import RecordedAnswers
from nas_t2i.files import write_json
from nas_t2i.records import Score

FILES = Path(__file__).parents[2] / "fixtures" / "tifa"
QUESTIONS = read_questions(FILES / "questions.json")
NOISE = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
IDS = ["own_1", "own_2", "own_3"]


def make_images(ids: list[str] = IDS) -> ImageSet:
    return ImageSet.from_arrays(ids, NOISE[: len(ids)])


class Counting:
    """The recorded answers, and how often each was asked for; may stop after so many captions."""

    def __init__(self, stop_after: int = 1000) -> None:
        self._recorded = RecordedAnswers(FILES / "result.json")
        self.identity = self._recorded.identity
        self.asked: list[tuple[str, str]] = []
        self._left = stop_after

    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer | None]:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self.asked += [(question["id"], question["question"]) for question in questions]
        return self._recorded.answer(image, questions)


class Synonyms:
    """A mapping that also knows that pottery is of clay."""

    identity = "synonyms"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        if answer.text == "pottery":
            return Mapped("clay", "embedding", 0.75, 0.25)
        return ExactMapping().map(answer, choices)


def run(questions=QUESTIONS, images=None, vqa_model=None, mapping=None, log=None) -> TifaOutcome:
    vqa_model = vqa_model or Counting()
    log = AnswerLog(None) if log is None else log
    looked = ask(questions, images or make_images(), vqa_model, log)
    return score(questions, looked, vqa_model.identity, mapping or ExactMapping(), log)


def test_the_score_by_hand():
    outcome = run()
    assert outcome.score.per_prompt == [1, 0.5, 1]
    assert outcome.prompts == IDS
    assert outcome.score.value == pytest.approx(2.5 / 3)
    assert outcome.score.stderr == pytest.approx(math.sqrt(1 / 12 / 3))
    assert (outcome.score.n, outcome.score.n_missing) == (3, 0)
    # "kite" and "is there a jug?" are about objects, "are there goats?" is about an animal.
    assert outcome.score.by_type == {
        "animal/human": 1,
        "counting": 1,
        "location": 1,
        "material": 0,
        "object": 1,
    }
    # Somebody who always says yes: (1 + 1/4 + 1/4) / 3, (1 + 1/4) / 2 and 1/4.
    assert outcome.score.chance == pytest.approx((0.5 + 0.625 + 0.25) / 3)
    assert outcome.notes == ["1 answer taken for none of the choices, counted as wrong"]
    reference = json.loads((FILES / "result.json").read_text())
    assert reference_result(outcome.details) == reference


def test_nothing_is_asked_twice_wherever_it_stops(tmp_path):
    whole = run()
    asked = []
    for _ in range(3):  # one caption a time, then somebody presses Ctrl-C
        vqa_model = Counting(stop_after=1)
        with AnswerLog(tmp_path / "log.jsonl") as log:
            try:
                outcome = run(vqa_model=vqa_model, log=log)
            except KeyboardInterrupt:
                outcome = None
        asked += vqa_model.asked
    assert outcome == whole
    assert sorted(asked) == sorted((q["id"], q["question"]) for q in QUESTIONS)
    with AnswerLog(tmp_path / "log.jsonl") as log:
        again = Counting()
        assert run(vqa_model=again, log=log) == whole
    assert again.asked == []


def test_a_killed_run_goes_on(tmp_path):
    code = (
        "import os\n"
        "from tests.evaluation.tifa import test_run as t\n"
        "class Dying(t.Counting):\n"
        "    def answer(self, image, questions):\n"
        "        if questions[0]['id'] == 'own_3': os._exit(9)\n"
        "        return super().answer(image, questions)\n"
        f"t.run(vqa_model=Dying(), log=t.AnswerLog({str(tmp_path / 'log.jsonl')!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FILES.parents[2], capture_output=True, text=True
    )
    assert done.returncode == 9, done.stderr
    # As if the last line had been cut by the kill.
    content = (tmp_path / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(content[:-7])
    vqa_model = Counting()
    with AnswerLog(tmp_path / "log.jsonl") as log:
        outcome = run(vqa_model=vqa_model, log=log)
    assert vqa_model.asked == [
        ("own_2", "what is the jug made of?"),
        ("own_3", "what does the boy fly?"),
    ]
    assert outcome.score == run().score
    assert any("an interrupted write left" in note for note in outcome.notes)


def test_another_mapping_asks_nothing(tmp_path):
    with AnswerLog(tmp_path / "log.jsonl") as log:
        first = run(log=log)
        vqa_model = Counting()
        second = run(vqa_model=vqa_model, mapping=Synonyms(), log=log)
    assert vqa_model.asked == []
    assert second.score.per_prompt == [1, 1, 1]
    assert first.score.signature != second.score.signature
    with AnswerLog(tmp_path / "log.jsonl") as log:  # and needs no VQA model at all
        looked = Looked(
            {name: make_images().digest(name) for name in IDS}, {}, [], make_images().provenance
        )
        assert score(QUESTIONS, looked, vqa_model.identity, Synonyms(), log) == second


def test_answers_belong_to_image_question_and_vqa_model(tmp_path):
    changed = [dict(question) for question in QUESTIONS]
    changed[0]["choices"] = ["yes", "no", "maybe"]
    changed[1]["answer"] = "3"  # the gold answer is nothing that a VQA model sees
    other_images = ImageSet.from_arrays(IDS, NOISE[[0, 3, 2]])
    other_vqa_model = Counting()
    other_vqa_model.identity = "somebody else"
    with AnswerLog(tmp_path / "log.jsonl") as log:
        run(log=log)
        for arguments, count in (
            ({"questions": changed}, 1),
            ({"images": other_images}, 2),
            ({"vqa_model": other_vqa_model}, 6),
        ):
            vqa_model = arguments.setdefault("vqa_model", Counting())
            run(log=log, **arguments)
            assert len(vqa_model.asked) == count


def test_a_signature_says_what_must_be_equal():
    grey = ImageSet.from_arrays(IDS, NOISE[:3], blank_counts=True)
    other = [*QUESTIONS[:-1], {**QUESTIONS[-1], "answer": "drone"}]
    signatures = {
        outcome.score.signature
        for outcome in (run(), run(mapping=Synonyms()), run(images=grey), run(other))
    }
    assert len(signatures) == 4
    assert run(images=ImageSet.from_arrays(IDS, NOISE[1:])).score.signature in signatures
    identity = Counting().identity
    for signature in signatures:
        assert signature.startswith(f"tifa|vqa={identity}|mapping=")


def test_captions_without_a_good_image_are_counted_apart(tmp_path):
    for name in IDS:
        Image.fromarray(NOISE[0]).save(tmp_path / f"{name}.png")
    (tmp_path / "own_1.png").unlink()
    Image.new("RGB", (8, 8)).save(tmp_path / "own_3.png")
    Image.fromarray(NOISE[1]).save(tmp_path / "unmatched.png")
    vqa_model = Counting()
    outcome = run(images=ImageSet.from_folder(tmp_path), vqa_model=vqa_model)
    assert {name for name, _ in vqa_model.asked} == {"own_2"}
    assert (outcome.score.n, outcome.score.n_missing, outcome.score.value) == (1, 2, 0.5)
    assert outcome.missing == {"own_1": "missing", "own_3": "blank"}
    assert outcome.missing_by_reason == {"missing": 1, "blank": 1}
    assert outcome.score.by_type == {"object": 1, "material": 0}
    assert outcome.notes == [
        "1 caption not scored, image missing: own_1",
        "1 caption not scored, image blank: own_3",
        "what is not scored is left out, not wrong: compare over common prompts only",
        "1 image without a question: unmatched",
        "1 answer taken for none of the choices, counted as wrong",
    ]
    data = result(outcome)
    assert math.isnan(outcome.score.stderr)
    assert data["score"]["stderr"] == "NaN"
    assert data["missing"] == {
        "by_reason": dict(outcome.missing_by_reason),
        "captions": outcome.missing,
    }
    row = data["question_details"]["own_1"]["are there goats?"]
    assert (row["missing"], row["scores"], row["scored"]) == ("missing", None, False)


def test_a_caption_needs_all_its_answers(tmp_path):
    content = json.loads((FILES / "result.json").read_text())
    del content["question_details"]["own_1"]["where are the goats?"]
    (tmp_path / "r.json").write_text(json.dumps(content))
    outcome = run(vqa_model=RecordedAnswers(tmp_path / "r.json"))
    assert outcome.missing == {"own_1": "no answer"}
    assert outcome.score.per_prompt == [0.5, 1]
    assert outcome.notes[0] == "1 caption not scored, questions without an answer: own_1"
    missing = [d.question["question"] for d in outcome.details if d.missing]
    assert missing == ["where are the goats?"]


def test_nothing_to_score_is_one_line():
    with pytest.raises(ConfigError) as caught:
        run(images=make_images(["a", "b"]))
    assert str(caught.value) == (
        "images: none of the 2 images has the id of a caption: a, b; "
        "expected ids such as own_1, own_2, own_3"
    )
    blank = ImageSet.from_arrays(IDS, np.zeros_like(NOISE[:3]))
    nothing = run(images=blank)
    assert nothing.score is None and result(nothing)["score"] is None
    assert nothing.notes[0] == "3 captions not scored, image blank: own_1, own_2, own_3"
    assert reference_result(nothing.details)["tifa_average"] is None


def test_a_question_asked_twice_counts_once():
    other = {**QUESTIONS[0], "answer": "no"}
    vqa_model = Counting()
    outcome = run([*QUESTIONS, QUESTIONS[4], other], vqa_model=vqa_model)
    assert len(vqa_model.asked) == len(set(vqa_model.asked)) == 6
    once = run()
    assert outcome.score == once.score
    assert outcome.details == once.details
    assert outcome.notes[0] == "2 questions more than once under a caption: each counts once"


def test_a_gold_answer_out_of_reach_is_wrong_and_told():
    odd = [*QUESTIONS[:-1], {**QUESTIONS[-1], "choices": ["drone", "plane"]}]
    outcome = run(odd)
    assert outcome.score.per_prompt == [1, 0.5, 0]
    assert outcome.notes[0] == (
        "1 question with a gold answer that is none of the choices, counted as wrong: own_3"
    )


def test_questions_of_a_caption_need_not_stand_together():
    mixed = [QUESTIONS[n] for n in (5, 0, 3, 1, 4, 2)]
    outcome = run(mixed)
    assert outcome.prompts == ["own_3", "own_1", "own_2"]
    assert outcome.score.per_prompt == [1, 1, 0.5]


def test_our_result_can_be_read_back(tmp_path):
    with AnswerLog(None) as log:
        outcome = run(mapping=Synonyms(), log=log)
    write_json(tmp_path / "result.json", result(outcome))
    data = json.loads((tmp_path / "result.json").read_text())
    assert Score.model_validate(data["score"]) == outcome.score
    assert data["prompts"] == IDS
    row = data["question_details"]["own_2"]["what is the jug made of?"]
    assert row == {
        **QUESTIONS[4],
        "free_form_vqa": "pottery",
        "likelihoods": None,
        "multiple_choice_vqa": "clay",
        "scores": 1,
        "mapped": "embedding",
        "similarity": 0.75,
        "margin": 0.25,
        "missing": "",
        "scored": True,
    }
    again = make_vqa_model(f"recorded:{tmp_path / 'result.json'}")
    assert run(vqa_model=again, mapping=Synonyms()) == outcome
    assert read_result(tmp_path / "result.json").vqa_model == outcome.vqa_model


class Choosy:
    """A VQA model that tells likelihoods, one of them of a choice that it can't say."""

    identity = "choosy"

    def answer(self, image: Image.Image, questions: list[Question]) -> list[Answer]:
        return [
            Answer("?", (*np.linspace(-3, -1, len(q["choices"]) - 1), -math.inf)) for q in questions
        ]


class Likeliest:
    identity = "likeliest"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        assert answer.likelihoods is not None
        best = int(np.argmax(answer.likelihoods))
        return Mapped(choices[best], "likelihood", answer.likelihoods[best], math.inf)


def test_likelihoods_survive_the_log(tmp_path):
    outcomes = []
    for _ in range(2):
        with AnswerLog(tmp_path / "log.jsonl") as log:
            outcomes.append(run(vqa_model=Choosy(), mapping=Likeliest(), log=log))
    assert outcomes[0] == outcomes[1]
    (first, *_) = outcomes[0].details
    assert first.answer == Answer("?", (-3.0, -math.inf))
    write_json(tmp_path / "r.json", result(outcomes[0]))
    row = json.loads((tmp_path / "r.json").read_text())["question_details"]["own_1"]
    assert row["are there goats?"]["likelihoods"] == [-3.0, "-inf"]
    assert row["are there goats?"]["margin"] is None


def test_something_else_in_the_log_is_one_line(tmp_path):
    file = tmp_path / "log.jsonl"
    with AnswerLog(file) as log:
        run(log=log)
    file.write_text(file.read_text().replace('{"text": "kite", "likelihoods": null}', "0.5"))
    with AnswerLog(file) as log, pytest.raises(StorageError) as caught:
        run(log=log)
    assert str(caught.value) == f"{file}: got 0.5 for an answer to a question"


def test_progress_is_reported_in_captions():
    reported = []
    ask(QUESTIONS, make_images(), Counting(), AnswerLog(None), lambda *step: reported.append(step))
    assert reported == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_embedded_benchmark_scores_as_it_does_in_a_search():
    scenes = shapes.sample_scenes(5, "tifa-run-test", 30)
    names = [str(n) for n in range(30)]
    questions = questions_about(scenes, names)
    images = shapes.render(scenes)
    images[::3] = shapes.render(shapes.sample_scenes(6, "tifa-run-test", 10))  # wrong ones
    outcome = run(questions, ImageSet.from_arrays(names, images), make_vqa_model("shapes"))
    rows = np.array([int(question["id"]) for question in questions])
    said = shapes_vqa.answer(images, rows, questions)
    right = [a == q["answer"] for a, q in zip(said, questions, strict=True)]
    assert [detail.correct for detail in outcome.details] == right
    assert 0.5 < outcome.score.value < 0.95
    # Half of "is there" is "no" in every caption: looking is the only way to know more.
    guesses = [[1 / len(q["choices"]) for q in questions if q["id"] == name] for name in names]
    assert outcome.score.chance == pytest.approx(np.mean([np.mean(guess) for guess in guesses]))
