"""GIT (Wang et al. 2022, arXiv 2205.14100): one decoder that reads image, question and answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any, ClassVar

import torch
from packaging.version import Version
from torch import Tensor

from nas_t2i.conditioning.weights import CONFIG
from nas_t2i.errors import ConfigError, UserError
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa.common.cached_prompt import CachedPrompt
from nas_t2i.evaluation.vqa.common.decoding import Continued
from nas_t2i.evaluation.vqa.common.model import (
    GenerativeVqaModel,
    PretrainedVqa,
    PretrainedVqaModel,
    reject_choices_in_prompt,
)

_FIRST_RIGHT = Version("5.18")


class GitVqaModel(GenerativeVqaModel):
    """``GitForCausalLM`` fine-tuned to answer, such as microsoft/git-base-vqav2.

    The image's tokens look at themselves only, so that what the decoder keeps of them serves all
    questions: the cache of image and [CLS], with which every question starts, is computed once.
    """

    name = "git"
    model_type = "git"
    model_class = "GitForCausalLM"
    image_class = "CLIPImageProcessor"

    def _check(self) -> None:
        found = metadata.version("transformers")
        if Version(found) < _FIRST_RIGHT:  # a wrong mask where several tokens follow a cache
            raise UserError(
                f"{self.name}: got transformers {found}, with which it answers wrongly; expected "
                f"{_FIRST_RIGHT} or later: pip install --upgrade transformers"
            )
        reject_choices_in_prompt(self._options, self.name)
        if self._config.num_image_with_embedding is not None:
            raise ConfigError(
                str(self._checkpoint.folder / CONFIG),
                f"got a model of {self._config.num_image_with_embedding} video frames",
                expected="one of single images, without num_image_with_embedding",
            )
        self._ends = self._tokens_named(self._config, "eos_token_id")

    def _read_image(self, image: Mapping[str, Tensor]) -> CachedPrompt:
        """Return the image and the first token of every question, read."""
        start = torch.tensor([[self._tokenizer.cls_token_id]], device=self._device)
        out = self._model(input_ids=start, pixel_values=image["pixel_values"], use_cache=True)
        return CachedPrompt(out.past_key_values, out.logits[:, -1:], 1)

    def _tokenize(self, question: Question) -> list[int]:
        """Return the question's tokens after [CLS]."""
        tokens = self._choice_tokens(question["question"])
        # [CLS] before them, and the answer after, take positions too.
        most = self._config.max_position_embeddings - 1 - self._options.new_tokens
        return self._within(tokens, question, most)

    def _ask(self, seen: CachedPrompt, tokens: Tensor) -> CachedPrompt:
        return seen.extended(self._forward, tokens.new_zeros(len(tokens)), tokens)

    def _continue(self, asked: CachedPrompt, rows: Tensor, tokens: Tensor) -> Continued:
        return asked.continued(self._forward, rows, tokens)

    def _forward(self, tokens: Tensor, cache: Any, position: int) -> Tensor:
        # Positions are given because they count text alone, and the cache holds the image too.
        positions = torch.arange(position, position + tokens.shape[1], device=self._device)
        logits: Tensor = self._model(
            input_ids=tokens,
            position_ids=positions.expand(len(tokens), -1),
            past_key_values=cache,
            use_cache=True,
        ).logits
        return logits

    def _choice_tokens(self, choice: str) -> list[int]:
        tokens: list[int] = self._tokenizer(choice, add_special_tokens=False).input_ids
        return tokens


class GitVqa(PretrainedVqa):
    """GIT, such as microsoft/git-base-vqav2."""

    MODEL: ClassVar[type[PretrainedVqaModel]] = GitVqaModel
    READS: ClassVar[frozenset[str]] = PretrainedVqa.READS | {"--vqa-tokens"}
