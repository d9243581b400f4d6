"""Small VQA models with random weights, saved as ``save_pretrained`` saves the real ones.

Weights are spread wider than a fresh model's, so that answers depend on image and question.
Every writer draws from its own seed and leaves torch's global generator alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

WIDTH = 32
SIDE = 32  # pixels
_VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
_TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 96,
}
_WORDS = (
    "is there a red blue green circle square dog cat two what color how many are the ? , yes no"
)
_ANSWERS = "yes no red blue green one two three four cat dog square circle white black left right"
LABELS = [*_ANSWERS.split(), "two dogs", "Two Dogs", "a cat"]


def tiny_blip(folder: Path, *, seed: int = 1) -> Path:
    """A ``BlipForQuestionAnswering`` with its processor."""
    from transformers import (
        BlipConfig,
        BlipForQuestionAnswering,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    # The answer decoder reads what the question encoder made: both parts are equally wide.
    vision = _VISION | {"hidden_size": WIDTH}
    text = _TEXT | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=8)
    model = _drawn(BlipForQuestionAnswering, config, seed)
    images = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return _save(folder, model, BlipProcessor(images, tokenizer))


def tiny_vilt(folder: Path, *, seed: int = 0) -> Path:
    """A ``ViltForQuestionAnswering`` over `LABELS`, with its processor."""
    from transformers import (
        ViltConfig,
        ViltForQuestionAnswering,
        ViltImageProcessorPil,
        ViltProcessor,
    )

    tokenizer = bert_tokenizer()
    config = ViltConfig(
        **(_TEXT | {"max_position_embeddings": 20}),
        vocab_size=len(tokenizer),
        image_size=SIDE,
        patch_size=8,
        id2label=dict(enumerate(LABELS)),
        label2id={label: row for row, label in enumerate(LABELS)},
    )
    model = _drawn(ViltForQuestionAnswering, config, seed)
    images = ViltImageProcessorPil(size={"shortest_edge": SIDE}, size_divisor=8)
    return _save(folder, model, ViltProcessor(images, tokenizer))


def tiny_git(folder: Path, *, seed: int = 1) -> Path:
    """A ``GitForCausalLM`` with its processor."""
    from transformers import CLIPImageProcessorPil, GitConfig, GitForCausalLM, GitProcessor

    tokenizer = bert_tokenizer()
    config = GitConfig(
        vision_config=_VISION,
        **_TEXT,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = _drawn(GitForCausalLM, config, seed)
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)
    return _save(folder, model, GitProcessor(images, tokenizer))


def tiny_blip2(folder: Path, language: Literal["opt", "t5"], *, seed: int = 1) -> Path:
    """A ``Blip2ForConditionalGeneration`` over OPT or T5, with its processor."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessorPil,
    )

    tokenizer = opt_tokenizer() if language == "opt" else t5_tokenizer()
    images = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = Blip2Processor(images, tokenizer, num_query_tokens=4)
    text: dict[str, Any] = {"model_type": language, "vocab_size": len(tokenizer)}
    if language == "opt":
        text |= {
            "hidden_size": WIDTH,
            "word_embed_proj_dim": WIDTH,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 160,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    else:
        text |= {
            "d_model": WIDTH,
            "d_kv": 16,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 2,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "decoder_start_token_id": tokenizer.pad_token_id,
        }
    qformer = _TEXT | {"encoder_hidden_size": _VISION["hidden_size"], "vocab_size": 8}
    config = Blip2Config(
        vision_config=_VISION,
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = _drawn(Blip2ForConditionalGeneration, config, seed)
    return _save(folder, model, processor)


def tiny_sentences(folder: Path, *, seed: int = 1) -> Path:
    """An ``MPNetModel`` in the layout of sentence-transformers."""
    import json

    from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

    words = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", *_vocabulary()]
    tokenizer = MPNetTokenizer(
        vocab={word: row for row, word in enumerate(words)}, model_max_length=48
    )
    text = _TEXT | {"max_position_embeddings": 50}
    config = MPNetConfig(**text, vocab_size=len(tokenizer))
    _save(folder, _drawn(MPNetModel, config, seed), tokenizer)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def bert_tokenizer() -> Any:
    """A WordPiece tokenizer of a few words and all letters."""
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_vocabulary()]
    return BertTokenizer(vocab={word: row for row, word in enumerate(words)})


def opt_tokenizer() -> Any:
    """A byte-level BPE tokenizer without merges, which starts texts as OPT's does."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import GPT2Tokenizer

    words = ["<pad>", "</s>", *sorted(ByteLevel.alphabet())]
    return GPT2Tokenizer(
        vocab={word: row for row, word in enumerate(words)},
        merges=[],
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>"),
        **{"pad_token": "<pad>"},
        add_bos_token=True,
    )


def t5_tokenizer() -> Any:
    """A unigram tokenizer over letters."""
    from transformers import T5Tokenizer

    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:?'-"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("\u2581red", -1.0)]
    pieces += [(letter, -3.0) for letter in letters]
    return T5Tokenizer(vocab=pieces, extra_ids=0)


def _vocabulary() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [word for word in _WORDS.split() if len(word) > 1 or not word.isalpha()]
    return [*letters, *(f"##{letter}" for letter in letters), *words]


def _drawn(kind: Any, config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # Norms start as the identity, biases as zero and class tokens too.
                spread = 0.2 if parameter.ndim == 1 else 0.3
                parameter.add_(spread * torch.randn_like(parameter))
    return model


def _save(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder
