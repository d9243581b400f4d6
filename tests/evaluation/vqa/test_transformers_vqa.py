"""VQA models against the library's own generation, one question at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    GitForCausalLM,
    ViltForQuestionAnswering,
    ViltImageProcessorPil,
)

from nas_t2i.errors import ConfigError, MissingExtraError, UserError
from nas_t2i.evaluation.tifa.types import Answer, Question
from nas_t2i.evaluation.vqa import find_vqa
from nas_t2i.evaluation.vqa.common.base import Options
from nas_t2i.evaluation.vqa.common.decoding import greedy
from nas_t2i.evaluation.vqa.common.model import PretrainedVqaModel
from tests.conditioning.checkpoints import edit_json
from tests.evaluation.vqa.models import (
    LABELS,
    tiny_blip,
    tiny_blip2,
    tiny_git,
    tiny_vilt,
)

NEW_TOKENS = 12
CHOICES = ["red", "two dogs", "a cat", "blue"]
ASKED = [
    "is there a red circle?",
    "what color are the two dogs?",
    "how many cats?",
    "is there a blue circle?",
    "is there a red square?",
    "what is there?",
    "two cats?",
]


def question(text: str, choices: list[str] = CHOICES) -> Question:
    return Question(
        id="1", caption="", question=text, choices=choices, answer=choices[0],
        element_type="color", element="red",
    )  # fmt: skip


QUESTIONS = [question(text) for text in ASKED]


def make_image(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "blip": tiny_blip,
    "vilt": tiny_vilt,
    "git": tiny_git,
    "blip2-opt": partial(tiny_blip2, language="opt"),
    "blip2-t5": partial(tiny_blip2, language="t5"),
}
GENERATIVE = [name for name in WRITERS if name != "vilt"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each kind; not to be changed."""
    root = tmp_path_factory.mktemp("models")
    return {name: write(root / name) for name, write in WRITERS.items()}


def load(name: str, folder: Path, **options: Any) -> PretrainedVqaModel:
    options = {"new_tokens": NEW_TOKENS, **options}
    return find_vqa(f"{name.partition('-')[0]}:{folder}").load(Options(**options))


# The library's way, one image and one question at a time.


@cache
def frozen(kind: Any, folder: Path) -> Any:
    return kind.from_pretrained(folder).eval()


@torch.no_grad()
def library_blip(folder: Path, image: Image.Image, asked: Question) -> str:
    model = frozen(BlipForQuestionAnswering, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = BlipImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")
    text = tokenizer(asked["question"], return_tensors="pt", return_token_type_ids=False)
    # This library counts the start token too.
    out = model.generate(**pixels, **text, max_length=NEW_TOKENS + 1)
    return str(tokenizer.decode(out[0], skip_special_tokens=True))


@torch.no_grad()
def library_git(folder: Path, image: Image.Image, asked: Question) -> str:
    model = frozen(GitForCausalLM, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")
    words = tokenizer(asked["question"], add_special_tokens=False).input_ids
    ids = torch.tensor([[tokenizer.cls_token_id, *words]])
    out = model.generate(**pixels, input_ids=ids, max_new_tokens=NEW_TOKENS)
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@torch.no_grad()
def library_blip2(
    folder: Path, image: Image.Image, asked: Question, form: str = "Question: {question} Answer:"
) -> str:
    model = frozen(Blip2ForConditionalGeneration, folder)
    processor = Blip2Processor.from_pretrained(folder, backend="pil")
    text = form.format(question=asked["question"], choices=", ".join(asked["choices"]))
    inputs = processor(images=image, text=text, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=NEW_TOKENS)
    if not model.config.text_config.is_encoder_decoder:
        out = out[:, inputs["input_ids"].shape[1] :]
    return str(processor.decode(out[0], skip_special_tokens=True)).strip()


@torch.no_grad()
def vilt_logits(folder: Path, image: Image.Image, asked: Question) -> torch.Tensor:
    model = frozen(ViltForQuestionAnswering, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = ViltImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")
    text = tokenizer(asked["question"], truncation=True, max_length=20, return_tensors="pt")
    logits: torch.Tensor = model(**pixels, **text).logits
    return logits[0]


def library_vilt(folder: Path, image: Image.Image, asked: Question) -> str:
    return LABELS[int(vilt_logits(folder, image, asked).argmax())]


LIBRARY: dict[str, Callable[[Path, Image.Image, Question], str]] = {
    "blip": library_blip,
    "vilt": library_vilt,
    "git": library_git,
    "blip2-opt": library_blip2,
    "blip2-t5": library_blip2,
}


@pytest.mark.parametrize("name", WRITERS)
def test_answers_are_the_librarys(name: str, folders: dict[str, Path]) -> None:
    folder = folders[name]
    model = load(name, folder)
    seen = set()
    for image in (make_image(1), make_image(2)):
        answers = [answer.text for answer in model.answer(image, QUESTIONS)]
        assert answers == [LIBRARY[name](folder, image, asked) for asked in QUESTIONS]
        seen.add(tuple(answers))
    # Neither image nor question may be lost on the way.
    assert len(seen) == 2
    assert max(len(set(answers)) for answers in seen) >= 3


@pytest.mark.parametrize("name", WRITERS)
def test_the_batch_does_not_matter(name: str, folders: dict[str, Path]) -> None:
    image = make_image(1)
    model = load(name, folders[name], likelihood="sum")
    whole = model.answer(image, QUESTIONS)
    single = [model.answer(image, [asked])[0] for asked in QUESTIONS]
    turned = model.answer(image, QUESTIONS[::-1])[::-1]
    pairs = load(name, folders[name], likelihood="sum", batch=2).answer(image, QUESTIONS)
    for other in (single, turned, pairs):
        assert [answer.text for answer in other] == [answer.text for answer in whole]
        for one, two in zip(other, whole, strict=True):
            assert one.likelihoods == pytest.approx(two.likelihoods, abs=1e-4)
    lengths = [len(model._tokenize(asked)) for asked in QUESTIONS]
    assert 1 < len(set(lengths)) < len(lengths)  # some are batched, and not all
    assert len({answer.text for answer in whole}) >= 3
    assert len({answer.likelihoods for answer in whole}) == len(QUESTIONS)


@pytest.mark.parametrize("name", GENERATIVE)
def test_answers_end_where_they_end(name: str, tmp_path: Path) -> None:
    """With an end that this model does reach, rows of one batch end at different places."""
    folder = WRITERS[name](tmp_path / name)
    before = written(load(name, folder))
    # A token that stands at as many different places as any.
    end = max({t for row in before for t in row}, key=lambda t: len(places(before, t)))
    assert len(places(before, end)) > 1
    set_end(folder, end)
    assert written(load(name, folder)) == [row[: place(row, end)] for row in before]


def written(model: Any) -> list[list[int]]:
    """The tokens of the answers to questions of equal length."""
    asked = [
        question(f"{text}?") for text in ("two cat", "dog two", "cat dog", "how dog", "the cat")
    ]
    with torch.inference_mode():
        tokens = torch.tensor([model._tokenize(one) for one in asked])
        prompts = model._ask(model._look(make_image(1)), tokens)
        start = model._continue(prompts, torch.arange(len(asked)), tokens[:, :0])
        return greedy(start, model._ends, NEW_TOKENS)


def place(row: list[int], token: int) -> int:
    return row.index(token) if token in row else len(row)


def places(rows: list[list[int]], token: int) -> set[int]:
    return {place(row, token) for row in rows}


def set_end(folder: Path, token: int) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    text = config.get("text_config", config)
    text["eos_token_id"] = text["sep_token_id"] = token
    file.write_text(json.dumps(config))


@pytest.mark.parametrize("name", WRITERS)
def test_a_image_is_encoded_once_for_all_its_questions(name: str, folders: dict[str, Path]) -> None:
    model = load(name, folders[name], batch=2, likelihood="sum")
    part = {
        "vilt": lambda m: m.vilt.embeddings.patch_embeddings,
        "git": lambda m: m.git.image_encoder,
    }.get(name, lambda m: m.vision_model)(model._model)
    calls = []
    hook = part.register_forward_hook(lambda *_: calls.append(1))
    model.answer(make_image(1), QUESTIONS)
    hook.remove()
    assert len(calls) == 1


# Likelihoods: the log-probabilities of whole forward passes, without a cache.


def likelihood_of(logits: torch.Tensor, tokens: list[int]) -> float:
    """Of the last tokens of a row, from (length, vocabulary) logits of all its tokens."""
    log_probabilities = logits[-len(tokens) - 1 : -1].log_softmax(dim=-1)
    return float(sum(row[token] for row, token in zip(log_probabilities, tokens, strict=True)))


@torch.no_grad()
def blip_likelihood(folder: Path, image: Image.Image, asked: str, choice: str) -> tuple[float, int]:
    model = frozen(BlipForQuestionAnswering, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = BlipImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")
    text = tokenizer(asked, return_tensors="pt", return_token_type_ids=False)
    words = [*tokenizer(choice, add_special_tokens=False).input_ids, tokenizer.sep_token_id]
    answer = torch.tensor([[model.decoder_start_token_id, *words]])
    out = model(**pixels, **text, labels=answer, decoder_input_ids=answer)
    return -float(out.loss) * len(words), len(words)


@torch.no_grad()
def git_likelihood(folder: Path, image: Image.Image, asked: str, choice: str) -> tuple[float, int]:
    model = frozen(GitForCausalLM, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")
    words = [*tokenizer(choice, add_special_tokens=False).input_ids, tokenizer.sep_token_id]
    before = tokenizer(asked, add_special_tokens=False).input_ids
    ids = torch.tensor([[tokenizer.cls_token_id, *before, *words]])
    logits = model(**pixels, input_ids=ids, use_cache=False).logits[0]
    return likelihood_of(logits, words), len(words)


@torch.no_grad()
def opt_likelihood(folder: Path, image: Image.Image, asked: str, choice: str) -> tuple[float, int]:
    model = frozen(Blip2ForConditionalGeneration, folder)
    processor = Blip2Processor.from_pretrained(folder, backend="pil")
    text = f"Question: {asked} Answer:"
    before = processor(images=image, text=text, return_tensors="pt")
    whole = processor(images=image, text=f"{text} {choice}</s>", return_tensors="pt")
    words = whole["input_ids"][0, before["input_ids"].shape[1] :].tolist()
    return likelihood_of(model(**whole).logits[0], words), len(words)


@torch.no_grad()
def t5_likelihood(folder: Path, image: Image.Image, asked: str, choice: str) -> tuple[float, int]:
    model = frozen(Blip2ForConditionalGeneration, folder)
    processor = Blip2Processor.from_pretrained(folder, backend="pil")
    inputs = processor(images=image, text=f"Question: {asked} Answer:", return_tensors="pt")
    labels = processor.tokenizer(choice, return_tensors="pt").input_ids
    count = labels.shape[1]
    return -float(model(**inputs, labels=labels).loss) * count, count


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("blip", blip_likelihood),
        ("git", git_likelihood),
        ("blip2-opt", opt_likelihood),
        ("blip2-t5", t5_likelihood),
    ],
)
def test_likelihoods_of_choices(
    name: str,
    oracle: Callable[[Path, Image.Image, str, str], tuple[float, int]],
    folders: dict[str, Path],
) -> None:
    folder, image = folders[name], make_image(1)
    sums = load(name, folder, likelihood="sum").answer(image, QUESTIONS)
    means = load(name, folder, likelihood="mean").answer(image, QUESTIONS)
    for row in (0, 1, 4):
        expected = [oracle(folder, image, ASKED[row], choice) for choice in CHOICES]
        assert sums[row].likelihoods == pytest.approx([value for value, _ in expected], abs=1e-3)
        per_token = [value / count for value, count in expected]
        assert means[row].likelihoods == pytest.approx(per_token, abs=1e-3)
    assert load(name, folder).answer(image, QUESTIONS[:1])[0].likelihoods is None


def test_vilts_likelihoods_are_those_of_its_answers(folders: dict[str, Path]) -> None:
    folder, image = folders["vilt"], make_image(1)
    model = load("vilt", folder, likelihood="sum")
    known = question(ASKED[0], ["No ", "two  dogs", "blue"])
    unknown = question(ASKED[0], ["no", "purple"])
    first, second = model.answer(image, [known, unknown])
    rows = [LABELS.index("no"), LABELS.index("two dogs"), LABELS.index("blue")]
    expected = torch.nn.functional.logsigmoid(vilt_logits(folder, image, known))[rows]
    assert first.likelihoods == pytest.approx(expected.tolist(), abs=1e-5)
    assert second == Answer(first.text, None)


def test_vilt_leaves_the_global_generator_alone(folders: dict[str, Path]) -> None:
    model = load("vilt", folders["vilt"])
    before = torch.get_rng_state()
    model.answer(make_image(1), QUESTIONS[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_vilt_cuts_long_questions_others_refuse(folders: dict[str, Path]) -> None:
    long = question("what color are the two dogs and " * 20)
    model = load("vilt", folders["vilt"])
    answer = model.answer(make_image(1), [long])[0].text
    assert answer == library_vilt(folders["vilt"], make_image(1), long)
    for name in ("blip", "git", "blip2-opt"):
        with pytest.raises(ConfigError, match=r"question 'what .* tokens for .*expected at most"):
            load(name, folders[name]).answer(make_image(1), [long])
    assert load("blip2-t5", folders["blip2-t5"]).answer(make_image(1), [long])


def test_blip2_may_be_shown_the_choices(folders: dict[str, Path]) -> None:
    folder, image = folders["blip2-t5"], make_image(1)
    model = load("blip2", folder, choices_in_prompt=True)
    form = "Question: {question} Choices: {choices}. Answer:"
    answers = [answer.text for answer in model.answer(image, QUESTIONS)]
    assert answers == [library_blip2(folder, image, asked, form) for asked in QUESTIONS]
    plain = load("blip2", folder)
    assert [answer.text for answer in plain.answer(image, QUESTIONS)] != answers
    assert f"prompt={form};" in model.identity
    with pytest.raises(ConfigError, match="choices_in_prompt: got it for 'git'; expected"):
        load("git", folders["git"], choices_in_prompt=True)


@pytest.mark.parametrize("name", WRITERS)
def test_half_precision(name: str, folders: dict[str, Path]) -> None:
    answers = load(name, folders[name], dtype="bf16", likelihood="sum").answer(
        make_image(1), QUESTIONS
    )
    exact = load(name, folders[name], likelihood="sum").answer(make_image(1), QUESTIONS)
    for rough, fine in zip(answers, exact, strict=True):
        assert rough.likelihoods == pytest.approx(fine.likelihoods, rel=0.2, abs=0.5)
        assert rough.likelihoods != fine.likelihoods


def test_no_question_no_answer(folders: dict[str, Path]) -> None:
    assert load("blip", folders["blip"]).answer(make_image(1), []) == []


# Identity.


def test_what_decides_an_answer_is_in_the_identity(tmp_path: Path) -> None:
    folder = tiny_blip(tmp_path / "blip")
    plain = load("blip", folder).identity
    assert plain.startswith("blip-")
    assert ";image=32x32,bicubic,mean 0.4815/" in plain
    assert ";fp32;prompt={question};greedy<=12;transformers=" in plain
    same = load("blip", folder, batch=3).identity
    assert same == plain
    others = [
        load("blip", folder, **change).identity
        for change in (
            {"dtype": "bf16"},
            {"likelihood": "sum"},
            {"likelihood": "mean"},
            {"new_tokens": 3},
        )
    ]
    edit_json(folder / "config.json", _name_or_path="elsewhere", transformers_version="4.0.0")
    assert load("blip", folder).identity == plain
    file = folder / "processor_config.json"
    images = json.loads(file.read_text())["image_processor"]
    edit_json(file, image_processor={**images, "image_mean": [0.5, 0.5, 0.5]})
    others.append(load("blip", folder).identity)
    edit_json(file, image_processor=images)
    edit_json(folder / "tokenizer_config.json", model_max_length=7)
    others.append(load("blip", folder).identity)
    others.append(load("blip", tiny_blip(tmp_path / "other", seed=5)).identity)
    assert len({plain, *others}) == len(others) + 1
    assert not any("\n" in identity for identity in others)


# Files.


def test_the_layouts_of_older_releases(tmp_path: Path, folders: dict[str, Path]) -> None:
    folder = tiny_vilt(tmp_path / "vilt")
    (folder / "processor_config.json").unlink()
    old = {"feature_extractor_type": "ViltFeatureExtractor", "size": 32, "size_divisor": 8}
    old |= {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    (folder / "tokenizer.json").unlink()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    edit_json(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    expected = load("vilt", folders["vilt"]).answer(make_image(1), QUESTIONS)
    assert load("vilt", folder).answer(make_image(1), QUESTIONS) == expected

    folder = tiny_git(tmp_path / "git")
    (folder / "processor_config.json").unlink()
    old = {"image_processor_type": "CLIPImageProcessorFast", "size": 32, "crop_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    expected = load("git", folders["git"]).answer(make_image(1), QUESTIONS)
    assert load("git", folder).answer(make_image(1), QUESTIONS) == expected


def refused(name: str, folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(name, folder, **options)
    assert "\n" not in str(caught.value)


def test_kinds_and_options(folders: dict[str, Path]) -> None:
    blip = folders["blip"]
    refused("blop", blip, "vqa: got 'blop:.*'; expected blip:MODEL, .*; did you mean 'bl")
    refused("git", blip, "config.json: got a model of type 'blip'; expected git")
    refused("git", blip.parent / "gitt", "vqa: no folder '.*gitt'; .*; did you mean 'git'")
    refused("git", blip, "vqa: got the revision 'main' of", revision="main")
    refused("git", blip, "vqa.batch: got 0; expected at least 1", batch=0)
    refused("git", blip, "vqa.new_tokens: got 0; expected at least 1", new_tokens=0)


def test_images_that_would_be_prepared_otherwise(tmp_path: Path) -> None:
    folder = tiny_blip(tmp_path / "blip")
    file = folder / "processor_config.json"
    images = json.loads(file.read_text())["image_processor"]
    for change, message in (
        ({"image_processor_type": "ViTImageProcessor"}, "got 'ViTImage.*; expected BlipImage"),
        ({"size": {"height": 48, "width": 48}}, "images become 48 x 48 pixels; expected 32 x 32"),
        ({"size": "wide"}, "images can't be prepared as it says"),
        ({"image_mean": [0.5]}, "images can't be prepared as it says"),
    ):
        edit_json(file, image_processor={**images, **change})
        refused("blip", folder, rf"processor_config.json: {message}")
    file.unlink()
    refused("blip", folder, "does not say how images are prepared; expected preprocessor_config")


def test_weights_that_are_missing_pickled_or_of_another_model(tmp_path: Path) -> None:
    folder = tiny_blip(tmp_path / "blip")
    weights = folder / "model.safetensors"
    state = load_file(weights)
    without = {k: v for k, v in state.items() if not k.startswith("text_encoder.")}
    save_file(without, weights, metadata={"format": "pt"})
    refused("blip", folder, r"not weights of a BlipForQuestionAnswering .*: no text_encoder\.")
    weights.write_bytes(weights.read_bytes()[:-5])
    refused("blip", folder, "not a whole safetensors file")
    weights.unlink()
    torch.save(state, folder / "pytorch_model.bin")
    refused("blip", folder, "only pytorch_model.bin, a pickle, which is not read")


def test_a_release_that_answers_wrongly_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: {"transformers": "5.17.0"}[name])
    with pytest.raises(UserError, match=r"git: got transformers 5\.17\.0, .* expected 5\.18 or"):
        load("git", folders["git"])


def test_models_that_are_not_meant(tmp_path: Path) -> None:
    folder = tiny_git(tmp_path / "git")
    edit_json(folder / "config.json", num_image_with_embedding=6)
    refused("git", folder, "got a model of 6 video frames; expected one of single images")
    edit_json(folder / "config.json", num_image_with_embedding=None, eos_token_id=None)
    refused("git", folder, "config.json: no eos_token_id; expected a token's number")
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "config.json", eos_token_id=3)
    refused("git", folder, "no tokenizer in it; expected one of tokenizer.json")
    folder = tiny_blip2(tmp_path / "blip2", "opt")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit_json(folder / "config.json", text_config={**text, "model_type": "gpt2"})
    refused("blip2", folder, "got a language model of type 'gpt2'; expected opt or t5")
    folder = tiny_blip2(tmp_path / "blip2-t5", "t5")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    del text["decoder_start_token_id"]
    edit_json(folder / "config.json", text_config=text)
    refused("blip2", folder, "config.json: no decoder_start_token_id; expected a token's number")


def test_without_transformers_the_extra_is_named(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"'blip'.*pip install 'nas-t2i\[text\]'"):
        load("blip", folders["blip"])


def test_loading_and_answering_say_nothing(
    folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    for name, folder in folders.items():
        load(name, folder, likelihood="sum").answer(make_image(1), QUESTIONS[:2])
    assert capfd.readouterr() == ("", "")
