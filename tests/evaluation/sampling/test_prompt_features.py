"""Prompts are encoded once for all trials."""

import pytest
import torch

from nas_t2i.errors import StorageError
from nas_t2i.evaluation.sampling import prompt_features as prompt_text
from nas_t2i.evaluation.sampling.prompt_features import encode_prompts
from nas_t2i.training.feeds.inputs import Inputs
from tests.training.tiny import tiny_budget

PROMPTS = ["a red circle", "two blue squares", "a red circle", "a red triangle"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder, and what encoders are asked for, in order."""
    asked = []
    cls = type(Inputs(tiny_budget(), tmp_path).encoder)
    encode = cls.encode

    def counted(self, texts):
        asked.append(list(texts))
        return encode(self, texts)

    monkeypatch.setattr(cls, "encode", counted)
    return tmp_path, asked


def inputs_in(folder, **text):
    budget = tiny_budget()
    settings = budget.text.model_copy(update=text)
    return Inputs(budget.model_copy(update={"text": settings}), folder)


def test_features_are_the_encoders_and_a_second_trial_asks_for_none(cache):
    folder, asked = cache
    inputs = inputs_in(folder)
    expected = inputs.encoder.encode(PROMPTS)
    asked.clear()
    first = encode_prompts(PROMPTS, inputs)
    assert asked == [["a red circle", "two blue squares", "a red triangle"]]
    torch.testing.assert_close(first, expected)
    second = inputs_in(folder)
    asked.clear()
    assert torch.equal(encode_prompts(PROMPTS, second), first)
    # The same distinct prompts in the same order of appearance, another list.
    assert torch.equal(encode_prompts([*PROMPTS, PROMPTS[1]], second)[4], first[1])
    assert asked == []


def test_other_prompts_and_other_encoders_have_files_of_their_own(cache):
    folder, asked = cache
    inputs, other = inputs_in(folder), inputs_in(folder, seed=1)
    asked.clear()
    one = encode_prompts(PROMPTS, inputs)
    assert len(encode_prompts(PROMPTS[:2], inputs)) == 2
    assert not torch.allclose(encode_prompts(PROMPTS, other), one)
    assert len(asked) == 3
    assert len(list((folder / "prompt-text").iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "another layout", "too few"])
def test_a_file_that_cant_be_used_is_made_again(cache, damage):
    folder, asked = cache
    inputs = inputs_in(folder)
    expected = encode_prompts(PROMPTS, inputs)
    (file,) = (folder / "prompt-text").iterdir()
    whole = file.read_bytes()
    file.write_bytes({
        "cut": whole[:-7],
        "empty": b"",
        "another layout": prompt_text.save({"other": expected}),
        "too few": prompt_text.save({"text": expected[:1]}),
    }[damage])  # fmt: skip
    asked.clear()
    assert torch.equal(encode_prompts(PROMPTS, inputs), expected)
    assert len(asked) == 1 and file.read_bytes() == whole


def test_a_folder_that_cant_be_written_is_one_line(cache):
    folder, _ = cache
    inputs = inputs_in(folder)
    (folder / "prompt-text").write_text("a file in the way")
    with pytest.raises(StorageError, match="prompt-text: can't be made"):
        encode_prompts(PROMPTS, inputs)
