"""Small checkpoints with random weights, saved in the formats that the real ones come in.

Every writer draws its weights from its own seed and leaves torch's global generator alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

TEXT_WIDTH = 32
CLIP_TOKENS = 77  # also the most that tiny_clip's positions allow

_VISION = {"layers": 1, "width": 16, "head_width": 16, "patch_size": 16, "image_size": 32}
_TEXT = {
    "context_length": CLIP_TOKENS,
    "vocab_size": 49408,  # of OpenCLIP's own tokenizer, which no config can shrink
    "width": TEXT_WIDTH,
    "heads": 2,
    "layers": 3,
}


def openclip_config(**text: Any) -> dict[str, Any]:
    """An OpenCLIP architecture; `text` overrides keys of its text tower."""
    return {"embed_dim": 16, "vision_cfg": _VISION, "text_cfg": {**_TEXT, **text}}


def tiny_openclip(
    folder: Path,
    *,
    form: Literal["safetensors", "pt", "training"] = "safetensors",
    layout: Literal["clip", "custom"] = "clip",
    seed: int = 0,
    **text: Any,
) -> tuple[Path, Path]:
    """A full CLIP model, 32 wide, as (config .json, weights file).

    `layout`: the text tower's keys as they are ("clip") or under ``text.`` ("custom"), with the
    same values. `form` "training" is what OpenCLIP's training script saves: an epoch, and a state
    dict whose keys start with ``module.``.
    """
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = openclip_config(**text)
    config_file = folder / "tiny-clip.json"
    config_file.write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CustomTextCLIP(**config)
        state = {key: _random_like(value) for key, value in model.state_dict().items()}
    if layout == "clip":
        state = {key.removeprefix("text."): value for key, value in state.items()}
    if form == "safetensors":
        weights = folder / "open_clip_model.safetensors"
        save_file(state, weights)
    elif form == "pt":
        weights = folder / "open_clip_pytorch_model.pt"
        torch.save(state, weights)
    else:
        weights = folder / "epoch_1.pt"
        modules = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 1, "state_dict": modules}, weights)
    return config_file, weights


def _random_like(value: torch.Tensor) -> torch.Tensor:
    # Norms start as the identity and biases as zero: a test must notice when they are left out.
    if value.ndim == 1 and value.is_floating_point():
        return value + 0.1 * torch.randn_like(value)
    return value.contiguous().clone()


def tiny_clip(folder: Path, *, layers: int = 3, seed: int = 0) -> Path:
    """A transformers CLIP text encoder (`folder`) with its tokenizer beside the weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = _clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        projection_dim=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    _save_model(CLIPTextModel, config, folder, seed)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_t5(folder: Path, *, layers: int = 3, seed: int = 0) -> Path:
    """A transformers T5 encoder (`folder`) with its tokenizer beside the weights."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = _t5_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=64,
        num_layers=layers,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    _save_model(T5EncoderModel, config, folder, seed)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_vae(
    folder: Path,
    scaling_factor: float | None = 0.18215,
    *,
    shift_factor: float | None = None,
    levels: int = 3,
    seed: int = 0,
    **config: Any,
) -> Path:
    """A diffusers AutoencoderKL (`folder`): 4 latent channels, down-sampling ``2**(levels - 1)``.

    `scaling_factor` None leaves the key out of the saved config, as old releases do.
    """
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=(8,) * levels,
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=0.18215 if scaling_factor is None else scaling_factor,
            shift_factor=shift_factor,
            **config,
        )
    model.save_pretrained(folder)
    if scaling_factor is None:
        edit_json(folder / "config.json", scaling_factor=...)
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Change keys of a JSON object in a file; ``...`` removes one."""
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def _save_model(kind: Any, config: Any, folder: Path, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    model.save_pretrained(folder)


def _clip_tokenizer() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: row for row, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[("r", "e"), ("re", "d</w>")])


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'-"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("\u2581red", -1.0)]
    pieces += [(letter, -3.0) for letter in letters]
    return T5Tokenizer(vocab=pieces, extra_ids=0)
