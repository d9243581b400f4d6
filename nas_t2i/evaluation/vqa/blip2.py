"""BLIP-2 (Li et al. 2023, arXiv 2301.12597): a language model that is shown an image.

Beams, a length penalty and other prompts, with which the paper's figures were made, give other
answers: the prompt is part of the identity, and decoding is greedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from nas_t2i.conditioning.weights import CONFIG
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa.common.cached_prompt import CachedPrompt
from nas_t2i.evaluation.vqa.common.decoding import Continued
from nas_t2i.evaluation.vqa.common.model import (
    GenerativeVqaModel,
    PretrainedVqa,
    PretrainedVqaModel,
)

_LANGUAGE_MODELS = ("opt", "t5")


class Blip2VqaModel(GenerativeVqaModel):
    """``Blip2ForConditionalGeneration`` over OPT or T5, such as Salesforce/blip2-flan-t5-xl."""

    name = "blip2"
    model_type = "blip-2"
    model_class = "Blip2ForConditionalGeneration"
    image_class = "BlipImageProcessor"

    def _check(self) -> None:
        text = self._config.text_config
        if text.model_type not in _LANGUAGE_MODELS:
            raise ConfigError(
                str(self._checkpoint.folder / CONFIG),
                f"got a language model of type {text.model_type!r}",
                expected=" or ".join(_LANGUAGE_MODELS),
            )
        self._two_parts = bool(text.is_encoder_decoder)
        if self._two_parts:
            self._start = self._tokens_named(text, "decoder_start_token_id")[0]
        self._ends = self._tokens_named(text, "eos_token_id")

    def _read_image(self, image: Mapping[str, Tensor]) -> Tensor:
        """(1, query tokens, width): the image as the language model is given it."""
        features: Tensor = self._model.get_image_features(image["pixel_values"]).pooler_output
        return features

    def _tokenize(self, question: Question) -> list[int]:
        tokens: list[int] = self._tokenizer(self._prompt(question)).input_ids
        if self._two_parts:  # T5 knows distances, not positions: there is no most
            return tokens
        text = self._config.text_config
        taken = self._config.num_query_tokens + self._options.new_tokens
        return self._within(tokens, question, text.max_position_embeddings - taken)

    def _prompt(self, question: Question) -> str:
        return self._prompt_form().format(
            question=question["question"], choices=", ".join(question["choices"])
        )

    def _prompt_form(self) -> str:
        if self._options.choices_in_prompt:
            return "Question: {question} Choices: {choices}. Answer:"
        return "Question: {question} Answer:"

    def _ask(self, seen: Tensor, tokens: Tensor) -> Tensor | CachedPrompt:
        """T5: (n, length, width), the prompts encoded. OPT: the prompts, read."""
        language = self._model.language_model
        words = language.get_input_embeddings()(tokens)
        prompt = torch.cat([seen.to(words.dtype).expand(len(tokens), -1, -1), words], dim=1)
        if self._two_parts:
            encoded: Tensor = language.get_encoder()(inputs_embeds=prompt).last_hidden_state
            return encoded
        out = language(inputs_embeds=prompt, use_cache=True)
        return CachedPrompt(out.past_key_values, out.logits[:, -1:], prompt.shape[1])

    def _continue(self, asked: Tensor | CachedPrompt, rows: Tensor, tokens: Tensor) -> Continued:
        if isinstance(asked, CachedPrompt):
            return asked.continued(self._forward, rows, tokens)
        encoded = asked[rows]
        start = tokens.new_full((len(tokens), 1), self._start)
        out = self._decode(torch.cat([start, tokens], dim=1), encoded, None)
        return Continued(
            out.logits,
            lambda latest: self._decode(latest, encoded, out.past_key_values).logits[:, -1],
        )

    def _decode(self, tokens: Tensor, encoded: Tensor, cache: Any) -> Any:
        return self._model.language_model(
            encoder_outputs=(encoded,),
            decoder_input_ids=tokens,
            past_key_values=cache,
            use_cache=True,
        )

    def _forward(self, tokens: Tensor, cache: Any, _position: int) -> Tensor:
        logits: Tensor = self._model.language_model(
            input_ids=tokens, past_key_values=cache, use_cache=True
        ).logits
        return logits

    def _choice_tokens(self, choice: str) -> list[int]:
        # After "Answer:" an answer of OPT starts with the space before its first word.
        text = choice if self._two_parts else f" {choice}"
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return tokens


class Blip2Vqa(PretrainedVqa):
    """BLIP-2, such as Salesforce/blip2-flan-t5-xl."""

    MODEL: ClassVar[type[PretrainedVqaModel]] = Blip2VqaModel
    READS: ClassVar[frozenset[str]] = PretrainedVqa.READS | {"--vqa-tokens", "--vqa-choices"}
