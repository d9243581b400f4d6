"""Answers read by meaning, against the embeddings of a padded and masked batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertModel, MPNetModel

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.tifa.mapping.sentence import SentenceMapping
from nas_t2i.evaluation.tifa.types import Answer, Mapped
from tests.conditioning.checkpoints import edit_json
from tests.evaluation.vqa.models import bert_tokenizer, tiny_sentences

TEXTS = ["red", "two dogs", "", "a blue square", "what color is the cat?", "green", "no dogs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint; not to be changed."""
    return tiny_sentences(tmp_path_factory.mktemp("sentences") / "model")


@pytest.fixture(scope="module")
def mapping(folder: Path) -> SentenceMapping:
    return SentenceMapping(str(folder))


@torch.no_grad()
def padded(folder: Path, texts: list[str]) -> torch.Tensor:
    """The reference's embeddings: one padded batch, and a mask that keeps padding out."""
    model = MPNetModel.from_pretrained(folder).eval()
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    features = model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None]
    means = (features * mask).sum(dim=1) / mask.sum(dim=1)
    return means / means.norm(dim=1, keepdim=True)


def test_embeddings_are_masked_means_of_unit_length(folder: Path, mapping: SentenceMapping) -> None:
    embedded = mapping.embed(TEXTS)
    torch.testing.assert_close(embedded, padded(folder, TEXTS), rtol=0, atol=1e-6)
    spread = embedded @ embedded.T - torch.eye(len(TEXTS))
    assert spread.max() < 0.999  # the texts are told apart
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(len(TEXTS)))


def test_the_batch_does_not_matter(folder: Path, mapping: SentenceMapping) -> None:
    whole = SentenceMapping(str(folder)).embed(TEXTS)
    single = torch.cat([SentenceMapping(str(folder)).embed([text]) for text in TEXTS])
    torch.testing.assert_close(single, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(mapping.embed(TEXTS[::-1]).flip(0), whole, rtol=0, atol=1e-6)


def test_the_nearest_choice_with_its_margin(folder: Path, mapping: SentenceMapping) -> None:
    choices = TEXTS[1:]
    said, *offered = padded(folder, ["two red cats", *choices])
    similarities = [float(said @ choice) for choice in offered]
    best, second = sorted(similarities)[-1:-3:-1]
    found = mapping.map(Answer("two red cats"), choices)
    assert found.choice == choices[similarities.index(best)]
    assert found.how == "embedding"
    assert found.similarity == pytest.approx(best, abs=1e-5)
    assert found.margin == pytest.approx(best - second, abs=1e-5)
    turned = mapping.map(Answer("two red cats"), choices[::-1])
    assert turned.choice == found.choice


def test_what_reads_the_same_needs_no_embedding(mapping: SentenceMapping) -> None:
    before = dict(mapping._embedded)
    assert mapping.map(Answer("RED  cat"), ["yes", "red cat"]) == Mapped("red cat", "exact")
    assert mapping._embedded == before


def test_few_choices_and_equal_ones(mapping: SentenceMapping) -> None:
    assert mapping.map(Answer("red"), []) == Mapped("", "none")
    one = mapping.map(Answer("red"), ["blue"])
    assert (one.choice, one.how, one.margin) == ("blue", "embedding", None)
    twice = mapping.map(Answer("red"), ["blue", "BLUE"])
    assert (twice.choice, twice.margin) == ("blue", 0.0)
    assert mapping.map(Answer(""), ["blue", "two dogs"]).how == "embedding"


def test_a_text_is_embedded_once(mapping: SentenceMapping) -> None:
    calls: list[Any] = []
    hook = mapping._model.register_forward_hook(lambda *_: calls.append(1))
    mapping.map(Answer("nothing like it"), ["cat", "how many dogs"])
    first = len(calls)
    mapping.map(Answer("nothing like it"), ["how many dogs", "cat"])
    hook.remove()
    assert first > 0
    assert len(calls) == first


def test_long_answers_are_cut(folder: Path, mapping: SentenceMapping) -> None:
    long = "what color are the two dogs " * 30
    tokens = AutoTokenizer.from_pretrained(folder)(long, truncation=True, max_length=48).input_ids
    with torch.no_grad():
        states = MPNetModel.from_pretrained(folder).eval()(torch.tensor([tokens]))
    mean = states.last_hidden_state.mean(dim=1)
    torch.testing.assert_close(mapping.embed([long]), mean / mean.norm(), rtol=0, atol=1e-5)


def test_any_encoder_will_do_with_or_without_a_pooler(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = BertConfig(**sizes, num_attention_heads=2, vocab_size=len(tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    expected = SentenceMapping(str(tmp_path)).embed(TEXTS)
    kept = {key: value for key, value in state.items() if not key.startswith("pooler.")}
    assert len(kept) < len(state)
    save_file(kept, weights, metadata={"format": "pt"})
    torch.testing.assert_close(SentenceMapping(str(tmp_path)).embed(TEXTS), expected)
    kept.pop("embeddings.word_embeddings.weight")
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"no embeddings\.word_embeddings\.weight"):
        SentenceMapping(str(tmp_path))


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    folder = tiny_sentences(tmp_path / "model")
    file = folder / "1_Pooling" / "config.json"
    refusal = r"1_Pooling.config.json: got the pooling 'cls_token'; expected the mean over tokens"
    edit_json(file, pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    with pytest.raises(ConfigError, match=refusal):
        SentenceMapping(str(folder))
    file.write_text(json.dumps({"pooling_mode": "cls"}))
    with pytest.raises(ConfigError, match="got the pooling 'cls'"):
        SentenceMapping(str(folder))
    file.write_text(json.dumps({"pooling_mode": "mean"}))
    SentenceMapping(str(folder))


def test_identity(tmp_path: Path, mapping: SentenceMapping) -> None:
    assert mapping.identity.startswith("sentence-mpnet-")
    assert ";exact first;mean;cosine;transformers=" in mapping.identity
    other = SentenceMapping(str(tiny_sentences(tmp_path / "model", seed=3)))
    assert other.identity != mapping.identity
    with pytest.raises(
        ConfigError, match=r"mapping: no folder '.*modell'; .*; did you mean 'model'"
    ):
        SentenceMapping(str(tmp_path / "modell"))
