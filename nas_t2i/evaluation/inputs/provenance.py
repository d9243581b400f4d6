"""Where a set of images comes from: what of it two scores must share to be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from nas_t2i.protocol.evaluation import EvaluationSettings


@dataclass(frozen=True)
class Drawn:
    """How a denoiser drew images. Two models that are compared share all of it."""

    sampler: str  # with its steps
    guidance: float  # classifier-free guidance scale
    seed: int  # of each prompt's starting noise

    @classmethod
    def by(cls, evaluation: EvaluationSettings) -> Self:
        """Return how a budget's evaluation draws."""
        sampler = evaluation.sampler
        return cls(f"ddim{sampler.steps}", sampler.guidance, evaluation.seed)


@dataclass(frozen=True)
class Provenance:
    """Where images are from, and by which rule they were read.

    Attributes:
        drawn: how they were drawn; None: elsewhere, by whatever means.
        rule: by which files were read and problems named; "": no files, the images are as the model
            drew them, and every one counts. So it is at a rung.
        model: what drew them, for people; no part of signatures, as models are to be compared.
    """

    drawn: Drawn | None = None
    rule: str = ""
    model: str = ""

    @property
    def at_rung(self) -> bool:
        """Whether the images come straight from the model in training."""
        return not self.rule

    @property
    def images_part(self) -> str:
        """The part of a signature that says how images were read; "" at a rung."""
        return f"images={self.rule}" if self.rule else ""

    @property
    def drawn_part(self) -> str:
        """The part of a signature that says how they were drawn; "" where nobody knows."""
        if self.drawn is None:
            return ""
        facts = (
            self.drawn.sampler,
            f"guidance={self.drawn.guidance:g}",
            f"seed={self.drawn.seed}",
        )
        return "|".join(facts) if self.at_rung else f"drawn={','.join(facts)}"


def signature(*parts: str) -> str:
    """Return a metric's signature: its parts between bars, empty ones left out."""
    return "|".join(part for part in parts if part)
