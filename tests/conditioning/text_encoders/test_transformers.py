"""transformers' text encoders against the library's own hidden states."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from nas_t2i.conditioning.text_encoders.transformers import (
    TransformersEncoder,
    TransformersText,
    transformers_fingerprint,
    transformers_geometry,
)
from nas_t2i.errors import ConfigError, MissingExtraError
from tests.conditioning.checkpoints import edit_json, tiny_clip, tiny_t5

TEXTS = ["a red circle", "", "Two BLUE squares, and more of them"]
TOKENS = 40


def settings(model: object, **changes: Any) -> TransformersText:
    keys = {"tokens": TOKENS, "layer": "last", "padding": "keep", "precision": "fp32", **changes}
    return TransformersText(encoder="transformers", model=str(model), **keys)


@torch.no_grad()
def states(model: Any, folder: Path, *, masked: bool) -> tuple[torch.Tensor, ...]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(
        TEXTS, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt"
    )
    mask = batch.attention_mask if masked else None
    out = model(input_ids=batch.input_ids, attention_mask=mask, output_hidden_states=True)
    found: tuple[torch.Tensor, ...] = (*out.hidden_states, out.last_hidden_state)
    return found


def clip_states(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(penultimate, last), both after the final norm."""
    model = CLIPTextModel.from_pretrained(folder).eval()
    *_, before, _last, final = states(model, folder, masked=False)
    with torch.no_grad():
        return model.final_layer_norm(before), final


def t5_states(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(penultimate, last), both after the final norm."""
    model = T5EncoderModel.from_pretrained(folder).eval()
    *_, before, _last, final = states(model, folder, masked=True)
    with torch.no_grad():
        return model.encoder.final_layer_norm(before), final


@pytest.mark.parametrize(("write", "oracle"), [(tiny_clip, clip_states), (tiny_t5, t5_states)])
def test_features_are_the_librarys_hidden_states(
    write: Callable[[Path], Path],
    oracle: Callable[[Path], tuple[torch.Tensor, torch.Tensor]],
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "model")
    penultimate, last = oracle(folder)
    assert not torch.allclose(penultimate, last, atol=1e-2)
    for layer, expected in (("penultimate", penultimate), ("last", last)):
        features = TransformersEncoder(settings(folder, layer=layer)).encode(TEXTS)
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_t5_does_not_look_at_padding(tmp_path: Path) -> None:
    folder = tiny_t5(tmp_path / "model")
    short = TransformersEncoder(settings(folder, tokens=20)).encode(TEXTS[:1])
    long = TransformersEncoder(settings(folder, tokens=40)).encode(TEXTS[:1])
    length = TransformersEncoder(settings(folder, padding="zero")).lengths(TEXTS[:1])[0]
    torch.testing.assert_close(long[:, :length], short[:, :length], rtol=1e-5, atol=1e-5)


def test_the_keys_of_older_releases_and_of_whole_clips(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "text")
    expected = TransformersEncoder(settings(folder)).encode(TEXTS)

    # What is on the hubs has every key of a text encoder under text_model.
    old = tiny_clip(tmp_path / "old")
    state = load_file(old / "model.safetensors")
    old_state = {f"text_model.{name}": value for name, value in state.items()}
    positions = torch.arange(77)[None]
    old_state["text_model.embeddings.position_ids"] = positions
    save_file(old_state, old / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(TransformersEncoder(settings(old)).encode(TEXTS), expected)

    whole = tiny_clip(tmp_path / "whole")
    text = CLIPTextModel.from_pretrained(folder)
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    model = CLIPModel(
        CLIPConfig(text_config=text.config.to_dict(), vision_config=vision, projection_dim=16)
    )
    model.text_model.load_state_dict(text.state_dict())
    model.save_pretrained(whole)
    assert torch.equal(TransformersEncoder(settings(whole)).encode(TEXTS), expected)


def test_only_the_encoder_of_a_whole_t5_is_read(tmp_path: Path) -> None:
    folder = tiny_t5(tmp_path / "model")
    encoder = T5EncoderModel.from_pretrained(folder)
    expected = TransformersEncoder(settings(folder)).encode(TEXTS)
    config = T5Config.from_pretrained(folder, num_decoder_layers=1)
    whole = T5ForConditionalGeneration(config)
    whole.load_state_dict(encoder.state_dict(), strict=False)
    whole.save_pretrained(folder)
    assert torch.equal(TransformersEncoder(settings(folder)).encode(TEXTS), expected)


def test_shards_and_other_precisions(tmp_path: Path) -> None:
    folder = tiny_t5(tmp_path / "model")
    model = T5EncoderModel.from_pretrained(folder).bfloat16()
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    shards = list(folder.glob("model-*-of-*.safetensors"))
    assert len(shards) > 1
    features = TransformersEncoder(settings(folder)).encode(TEXTS)
    model = model.float().eval()
    *_, last = states(model, folder, masked=True)
    torch.testing.assert_close(features, last, rtol=1e-5, atol=1e-5)
    shards[0].unlink()
    with pytest.raises(ConfigError, match=rf"{shards[0].name}: no such file"):
        TransformersEncoder(settings(folder))


def test_a_pipeline_has_its_tokenizer_beside(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "plain")
    pipeline = tmp_path / "pipeline"
    tiny_clip(pipeline / "text_encoder_2")
    (pipeline / "tokenizer_2").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (pipeline / "text_encoder_2" / name).rename(pipeline / "tokenizer_2" / name)
    expected = TransformersEncoder(settings(folder))
    encoder = TransformersEncoder(settings(pipeline / "text_encoder_2"))
    assert torch.equal(encoder.encode(TEXTS), expected.encode(TEXTS))
    assert encoder.fingerprint == expected.fingerprint
    # The pipeline's own folder means its first encoder.
    for name in ("text_encoder", "tokenizer"):
        (pipeline / f"{name}_2").rename(pipeline / name)
    assert torch.equal(
        TransformersEncoder(settings(pipeline)).encode(TEXTS), expected.encode(TEXTS)
    )


def test_the_tokenizer_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "model")
    first = transformers_fingerprint(settings(folder))
    (folder / "vocab.txt").write_text("of another kind of tokenizer")
    assert transformers_fingerprint(settings(folder)) == first
    edit_json(folder / "tokenizer_config.json", model_max_length=5)
    assert transformers_fingerprint(settings(folder)) != first


def test_who_saved_the_config_is_not_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "model")
    first = transformers_fingerprint(settings(folder))
    edit_json(folder / "config.json", transformers_version="4.0.0", _name_or_path="/elsewhere")
    assert transformers_fingerprint(settings(folder)) == first
    edit_json(folder / "config.json", hidden_act="gelu")
    assert transformers_fingerprint(settings(folder)) != first


def refused(folder: Path, message: str, **changes: Any) -> str:
    with pytest.raises(ConfigError, match=message) as caught:
        TransformersEncoder(settings(folder, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_missing_or_of_another_kind(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    refused(tmp_path / "clipp", "text.model: no folder '.*clipp'; .*; did you mean 'clip'")
    refused(folder, "expected a revision of hub ids only", revision="main")
    refused(folder, "text.tokens: got 78 for .*; expected at most 77", tokens=78)
    edit_json(folder / "config.json", model_type="bert")
    refused(folder, "config.json: got a model of type 'bert'; expected clip_text_model, clip, t5")
    edit_json(folder / "config.json", model_type="clip_text_model", hidden_size="wide")
    refused(folder, r"config.json: not a config of a clip_text_model \(.*hidden_size.*int")
    (folder / "config.json").write_text('{"model_type": ')
    refused(folder, r"config.json:1:16: not whole JSON")
    (folder / "config.json").unlink()
    refused(folder, "config.json: no such file")


def test_weights_that_are_missing_pickled_or_damaged(tmp_path: Path) -> None:
    folder = tiny_t5(tmp_path / "t5")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    refused(folder, "model.safetensors: not a whole safetensors file")
    torch.save(load_file_of(content, tmp_path), folder / "pytorch_model.bin")
    weights.unlink()
    refused(folder, "only pytorch_model.bin, a pickle, which is not read; expected weights in saf")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "t5: no model.safetensors; expected")
    state = load_file_of(content, tmp_path)
    state.pop("encoder.final_layer_norm.weight")
    save_file(state, weights, metadata={"format": "pt"})
    refused(folder, r"no encoder.final_layer_norm.weight \(1 such tensors\)")
    save_file(
        {**load_file_of(content, tmp_path), "encoder.final_layer_norm.weight": torch.zeros(3)},
        weights,
        metadata={"format": "pt"},
    )
    refused(folder, "encoder.final_layer_norm.weight of another size")


def load_file_of(content: bytes, folder: Path) -> dict[str, torch.Tensor]:
    file = folder / "copy.safetensors"
    file.write_bytes(content)
    return load_file(file)


def test_an_index_names_files_beside_it_only(tmp_path: Path) -> None:
    folder = tiny_t5(tmp_path / "t5")
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"shared.weight": "../model.safetensors"}}')
    refused(folder, "got the file '../model.safetensors'; expected a name beside it")


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "text_encoder")
    (folder / "tokenizer.json").unlink()
    refused(folder, "no tokenizer in it; expected one of .* there or in '.*/tokenizer'")


def test_penultimate_leaves_out_the_last_block_only(tmp_path: Path) -> None:
    one = tiny_clip(tmp_path / "one", layers=1)
    refused(one, "text.layer: got 'penultimate' for an encoder of one block", layer="penultimate")
    assert transformers_geometry(settings(one)) == (TOKENS, 32)


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_clip(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nas-t2i\[text\]'"):
        transformers_geometry(settings(folder))


def test_loading_says_nothing_and_leaves_the_librarys_voice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    folder = tiny_clip(tmp_path / "model")
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    TransformersEncoder(settings(folder, layer="penultimate"))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
