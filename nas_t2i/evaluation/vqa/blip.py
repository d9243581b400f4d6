"""BLIP (Li et al. 2022, arXiv 2201.12086): a question encoder that sees, and an answer decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa.common.decoding import Continued
from nas_t2i.evaluation.vqa.common.model import (
    GenerativeVqaModel,
    PretrainedVqa,
    PretrainedVqaModel,
    reject_choices_in_prompt,
)


class BlipVqaModel(GenerativeVqaModel):
    """``BlipForQuestionAnswering``, such as Salesforce/blip-vqa-base."""

    name = "blip"
    model_type = "blip"
    model_class = "BlipForQuestionAnswering"
    image_class = "BlipImageProcessor"

    def _check(self) -> None:
        reject_choices_in_prompt(self._options, self.name)
        text = self._config.text_config
        self._start = self._tokens_named(text, "bos_token_id")[0]
        self._ends = self._tokens_named(text, "sep_token_id")

    def _read_image(self, image: Mapping[str, Tensor]) -> Tensor:
        """(1, patches, width): the image's features."""
        features: Tensor = self._model.vision_model(
            pixel_values=image["pixel_values"]
        ).last_hidden_state
        return features

    def _tokenize(self, question: Question) -> list[int]:
        tokens: list[int] = self._tokenizer(question["question"]).input_ids
        return self._within(tokens, question, self._config.text_config.max_position_embeddings)

    def _ask(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """(n, L, width): the questions, each as it reads with the image in view."""
        features: Tensor = self._model.text_encoder(
            input_ids=tokens, encoder_hidden_states=seen.expand(len(tokens), -1, -1)
        ).last_hidden_state
        return features

    def _continue(self, asked: Tensor, rows: Tensor, tokens: Tensor) -> Continued:
        features = asked[rows]
        start = tokens.new_full((len(tokens), 1), self._start)
        out = self._decode(torch.cat([start, tokens], dim=1), features, None)
        return Continued(
            out.logits,
            lambda latest: self._decode(latest, features, out.past_key_values).logits[:, -1],
        )

    def _decode(self, tokens: Tensor, features: Tensor, cache: Any) -> Any:
        return self._model.text_decoder(
            input_ids=tokens,
            encoder_hidden_states=features,
            past_key_values=cache,
            use_cache=True,
            is_decoder=True,
        )

    def _choice_tokens(self, choice: str) -> list[int]:
        tokens: list[int] = self._tokenizer(choice, add_special_tokens=False).input_ids
        return tokens


class BlipVqa(PretrainedVqa):
    """BLIP, such as Salesforce/blip-vqa-base."""

    MODEL: ClassVar[type[PretrainedVqaModel]] = BlipVqaModel
    READS: ClassVar[frozenset[str]] = PretrainedVqa.READS | {"--vqa-tokens"}
