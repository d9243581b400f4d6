"""ViLT (Kim et al. 2021, arXiv 2102.03334): picks one of the answers that it has learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from nas_t2i.evaluation.tifa.types import Answer, Question, normalized
from nas_t2i.evaluation.vqa.common.model import (
    PretrainedVqa,
    PretrainedVqaModel,
    reject_choices_in_prompt,
)

Patches = tuple[Tensor, Tensor]  # (1, patches + 1, width) features, (1, patches + 1) mask


class ViltVqaModel(PretrainedVqaModel):
    """``ViltForQuestionAnswering``, such as dandelin/vilt-b32-finetuned-vqa.

    Image and question go through every layer together, so that only the image's first layer,
    its patches, can be shared by the questions. Questions longer than the model's positions are cut
    there, as the TIFA reference does: ViLT has only 40 of them.
    """

    name = "vilt"
    model_type = "vilt"
    model_class = "ViltForQuestionAnswering"
    image_class = "ViltImageProcessor"

    def _check(self) -> None:
        reject_choices_in_prompt(self._options, self.name)
        labels: dict[int, str] = self._config.id2label
        self._labels = [str(labels[row]) for row in range(len(labels))]
        # The first of those that read the same, as in a list of answers by how common they are.
        self._row_of = {normalized(self._labels[r]): r for r in reversed(range(len(labels)))}

    def _check_size(self, file: Path, size: tuple[int, int]) -> None:
        """Nothing: positions of patches are stretched to the image's size and shape."""

    def _read_image(self, image: Mapping[str, Tensor]) -> Patches:
        # The library shuffles the patches, which changes no answer but their rounding.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            patches, mask, _ = self._model.vilt.embeddings.visual_embed(
                image["pixel_values"], image["pixel_mask"], self._config.max_image_length
            )
        return patches, mask

    def _tokenize(self, question: Question) -> list[int]:
        tokens: list[int] = self._tokenizer(
            question["question"],
            truncation=True,
            max_length=self._config.max_position_embeddings,
        ).input_ids
        return tokens

    def _answer_batch(
        self, seen: Patches, tokens: Tensor, questions: list[Question]
    ) -> list[Answer]:
        patches, mask = seen
        logits: Tensor = self._model(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            image_embeds=patches.expand(len(tokens), -1, -1),
            pixel_mask=mask.expand(len(tokens), -1),
        ).logits
        texts = [self._labels[row] for row in logits.argmax(dim=-1).tolist()]
        if self._options.likelihood is None:
            return [Answer(text) for text in texts]
        # Trained with one yes or no an answer: a logit is the log-odds that its answer is right.
        likelihoods = functional.logsigmoid(logits.float()).cpu()
        return [
            Answer(text, self._of_choices(row, question["choices"]))
            for text, row, question in zip(texts, likelihoods, questions, strict=True)
        ]

    def _of_choices(self, likelihoods: Tensor, choices: list[str]) -> tuple[float, ...] | None:
        """Return the choices' values; None where one of them is no answer that ViLT knows."""
        rows = [self._row_of.get(normalized(choice)) for choice in choices]
        if None in rows:
            return None
        return tuple(likelihoods[rows].tolist())

    def _manner(self) -> list[str]:
        most = self._config.max_position_embeddings
        manner = [f"prompt={{question}}[:{most} tokens]", f"answers={len(self._labels)}"]
        if self._options.likelihood is not None:
            manner.append("likelihood=label")
        return manner


class ViltVqa(PretrainedVqa):
    """ViLT, such as dandelin/vilt-b32-finetuned-vqa."""

    MODEL: ClassVar[type[PretrainedVqaModel]] = ViltVqaModel
