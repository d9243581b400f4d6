"""Answers read by what the model thinks of the choices: the one that it finds likeliest.

Nothing is lost in words, but the VQA model must be asked for likelihoods, and which texts are
likely depends on how they are normalised by length: that is part of the VQA model's identity.
"""

from __future__ import annotations

from nas_t2i.evaluation.tifa.mapping.exact import ExactMapping
from nas_t2i.evaluation.tifa.types import Answer, Mapped, Mapping


class LikelihoodMapping:
    """Takes the likeliest choice; an answer without likelihoods is read by another mapping.

    `similarity` is the choice's log-likelihood. Equal ones go to the choice that comes first.
    """

    def __init__(self, otherwise: Mapping | None = None) -> None:
        self._otherwise = otherwise or ExactMapping()
        self.identity = f"likelihood-v1;otherwise {self._otherwise.identity}"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        """Return the choice that an answer stands for.

        Raises:
            ValueError: there are not as many likelihoods as choices.
        """
        if answer.likelihoods is None or not choices:
            return self._otherwise.map(answer, choices)
        values = answer.likelihoods
        if len(values) != len(choices):
            raise ValueError(f"{len(values)} likelihoods of {len(choices)} choices")
        best = max(range(len(choices)), key=values.__getitem__)
        others = values[:best] + values[best + 1 :]
        margin = values[best] - max(others) if others else None
        return Mapped(choices[best], "likelihood", values[best], margin)
