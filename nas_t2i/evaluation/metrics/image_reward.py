"""ImageReward: a reward model of human preference, on BLIP's towers.

Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation",
2023 (arXiv:2304.05977). The prompt, cut and padded to 35 tokens, attends to the image in BLIP's
text encoder; five linear layers without anything between them turn the output at the first token
into one number, and a fixed shift and scale bring it near mean 0 and deviation 1. The first token
is BERT's ``[CLS]``: unlike BLIP's own matching head, the reference doesn't put ``[ENC]`` there.

The official checkpoint's tensors are given the names of transformers' BLIP classes, which do the
arithmetic here, in float32.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from nas_t2i.conditioning.weights import fetch, one_line, read_tensors
from nas_t2i.errors import ConfigError, MissingExtraError
from nas_t2i.evaluation.metrics.common.per_image import ImageModel, PerImageMetric
from nas_t2i.evaluation.metrics.common.weights import (
    batches,
    check_tensors,
    identity_of,
    weights_digest,
    weights_file,
)

_NAME = "image_reward"
TOKENIZER = "google-bert/bert-base-uncased"
# A file that the words come from, and what changes how they are read.
_WORDS = ("tokenizer.json", "vocab.txt")
_TOKENIZER_FILES = (*_WORDS, "tokenizer_config.json", "special_tokens_map.json")
# BLIP's tokens for decoding, encoding: part of the vocabulary, in this order behind BERT's words.
_MARKS = ("[DEC]", "[ENC]")
TOKENS = 35
# Mean and deviation of the raw reward over the reference's validation set.
MEAN, STD = 0.16717362830052426, 1.0333394966054072


@dataclass(frozen=True)
class BlipSizes:
    """Sizes of the model; as they are, those of the official checkpoint (ViT-L/16, BERT base)."""

    image: int = 224  # side in pixels
    patch: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    text_inner: int = 3072  # of the feed-forward layers
    vocabulary: int = 30524
    positions: int = 512
    head: tuple[int, int, int, int] = (1024, 128, 64, 16)


class ImageRewardMetric(PerImageMetric):
    """ImageReward: a reward model of human preference on BLIP's towers."""

    DISPLAY_NAME: ClassVar[str] = "ImageReward"

    metric: Literal["image_reward"]
    checkpoint: str = Field(description="a weights file, for example ImageReward.pt")
    tokenizer: str = Field(
        default="google-bert/bert-base-uncased", description="a local folder or a hub id"
    )

    def check(self) -> None:
        """Check the file of weights."""
        weights_file(self.checkpoint, "image_reward.checkpoint")

    def load_model(self, device: str) -> ImageModel:
        """Load the reward model."""
        return make_image_reward(self.checkpoint, tokenizer=self.tokenizer, device=device)


def make_image_reward(
    checkpoint: str,
    *,
    tokenizer: str = TOKENIZER,
    sizes: BlipSizes | None = None,
    device: str = "cpu",
) -> ImageModel:
    """Make ImageReward of a checkpoint file (``ImageReward.pt``): no bounds, about -2.3 to 2.

    `tokenizer` is a local folder with ``vocab.txt`` or ``tokenizer.json`` of BERT base (uncased),
    or its hub id.

    Raises:
        ConfigError: a file that is missing, damaged, or of another model.
        MissingExtraError: the package transformers is not installed.
    """
    return ImageReward(checkpoint, tokenizer, sizes or BlipSizes(), device)


class ImageReward:
    """An `ImageModel`."""

    name = _NAME

    def __init__(self, checkpoint: str, tokenizer: str, sizes: BlipSizes, device: str) -> None:
        import open_clip

        file = weights_file(checkpoint, f"{_NAME}.checkpoint")
        self._tokenizer = _load_tokenizer(tokenizer, sizes.vocabulary)
        self._model = _load(file, sizes).to(device)
        self._device = torch.device(device)
        # Shorter side to the size, bicubic with Pillow's antialiasing, centre crop, CLIP's colours.
        self._pixels = open_clip.image_transform(sizes.image, is_train=False)
        facts = {
            "weights": weights_digest(file),
            "sizes": "official" if sizes == BlipSizes() else _digest(asdict(sizes)),
            "tokenizer": _digest(self._tokenizer.get_vocab()),
            "tokens": TOKENS,
            "resize": f"shortest bicubic {sizes.image}, centre crop",
            "mean": MEAN,
            "std": STD,
            "dtype": "float32",
        }
        packages = ("transformers", "tokenizers", "torch", "torchvision", "pillow")
        self.identity = identity_of(_NAME, facts, *packages)

    @torch.no_grad()
    def score(self, images: list[Image.Image], prompts: list[str]) -> list[float]:
        """Return one reward an image. Raises ValueError where prompts are more or fewer."""
        rewards: list[float] = []
        for pixels, texts in batches(images, prompts, self._pixels):
            # Always padded to the same length: what shares a batch changes nothing.
            tokens = self._tokenizer(
                texts,
                padding="max_length",
                truncation=True,
                max_length=TOKENS,
                return_tensors="pt",
            ).to(self._device)
            raw = self._model(pixels.to(self._device), tokens.input_ids, tokens.attention_mask)
            rewards += ((raw.double() - MEAN) / STD).tolist()
        return rewards


class _RewardModel(nn.Module):
    """BLIP's towers and the head, with the module names of transformers."""

    def __init__(self, sizes: BlipSizes) -> None:
        super().__init__()
        from transformers import BlipTextConfig, BlipVisionConfig
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        vision = BlipVisionConfig(
            hidden_size=sizes.vision_width,
            intermediate_size=4 * sizes.vision_width,
            num_hidden_layers=sizes.vision_layers,
            num_attention_heads=sizes.vision_heads,
            image_size=sizes.image,
            patch_size=sizes.patch,
            layer_norm_eps=1e-6,
        )
        text = BlipTextConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.text_width,
            encoder_hidden_size=sizes.vision_width,
            intermediate_size=sizes.text_inner,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text_heads,
            max_position_embeddings=sizes.positions,
            layer_norm_eps=1e-12,
            is_decoder=True,  # which is what makes layers of cross-attention
            # Tokens for writing text, which nobody asks for here.
            bos_token_id=None,
            eos_token_id=None,
            sep_token_id=None,
        )
        # The text tower adds its masks to the attention's scores, so they must be numbers.
        text._attn_implementation = vision._attn_implementation = "eager"
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        self.head = nn.Sequential(*_head_layers(sizes))

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, 3, H, W) images and (N, tokens) prompts to (N,) raw rewards."""
        patches = self.vision(pixels).last_hidden_state
        states = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=patches,
            is_decoder=False,
        ).last_hidden_state
        rewards: Tensor = self.head(states[:, 0]).squeeze(-1)
        return rewards


def _head_layers(sizes: BlipSizes) -> Iterable[nn.Module]:
    widths = (sizes.text_width, *sizes.head, 1)
    for row, (ins, outs) in enumerate(pairwise(widths)):
        yield nn.Linear(ins, outs)
        if row < 3:
            # The reference drops out here in training, and counts these among its layers' names.
            yield nn.Identity()


# From the official checkpoint's names to those above, in this order. Its text encoder is named as
# transformers names it.
_RENAMED = (
    (r"^mlp\.layers\.", "head."),
    (r"^blip\.text_encoder\.", "text."),
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.", "vision.encoder.layers."),
    (r"(?<=\d)\.norm(?=[12]\.)", ".layer_norm"),
    (r"(?<=\d)\.attn\.qkv\.", ".self_attn.qkv."),
    (r"(?<=\d)\.attn\.proj\.", ".self_attn.projection."),
)
# Of the official checkpoint the reward doesn't depend on BLIP's projections for contrastive
# training (vision_proj, text_proj), nor on a table of the numbers 0, 1, 2 ...
_USED = re.compile(r"(mlp|blip\.visual_encoder|blip\.text_encoder)\.(?!.*position_ids).*")


def renamed(name: str) -> str | None:
    """Return where a tensor of the official checkpoint goes in the model; None: nowhere."""
    if not _USED.fullmatch(name):
        return None
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _load(file: Path, sizes: BlipSizes) -> _RewardModel:
    """Return the frozen model, float32, on the CPU. Raises ConfigError, MissingExtraError."""
    try:
        with torch.device("meta"):
            model = _RewardModel(sizes)
    except ImportError:
        raise MissingExtraError("ImageReward", "text") from None
    tensors = read_tensors(file, lambda names: [n for n in names if renamed(n) is not None])
    # Copied: what was read may still be mapped to the file, and the file may be written over.
    state = {str(renamed(n)): v.to(torch.float32, copy=True) for n, v in tensors.items()}
    check_tensors(file, state, model.state_dict(), "ImageReward")
    model.load_state_dict(state, assign=True)
    positions = torch.arange(sizes.positions).expand(1, -1)
    model.text.embeddings.position_ids = nn.Buffer(positions, persistent=False)
    return model.eval().requires_grad_(False)


def _load_tokenizer(name: str, vocabulary: int) -> Any:
    """Return BERT's tokenizer with BLIP's two. Raises ConfigError, MissingExtraError."""
    try:
        from transformers import BertTokenizer
    except ImportError:
        raise MissingExtraError("ImageReward", "text") from None
    where = f"{_NAME}.tokenizer"
    folder = fetch(name, None, _TOKENIZER_FILES, where)
    if not any((folder / file).is_file() for file in _WORDS):
        raise ConfigError(str(folder), "no tokenizer", expected=" or ".join(_WORDS))
    try:
        tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            str(folder), f"no tokenizer that can be read ({one_line(error)})"
        ) from None
    tokenizer.add_tokens(list(_MARKS), special_tokens=True)
    if len(tokenizer) != vocabulary:
        raise ConfigError(
            where,
            f"{name!r} has {len(tokenizer)} tokens with {' and '.join(_MARKS)}",
            expected=f"{vocabulary}, as the checkpoint has",
            hint=f"it was trained with {TOKENIZER}",
        )
    return tokenizer


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]
