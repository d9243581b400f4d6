"""From a free-form answer to one of a question's choices.

A model that says "Two dogs" where the choices are "one" and "two" has to be read. How it is read
decides the score, so that a mapping has an identity and is part of every score's signature.
"""

from __future__ import annotations

from nas_t2i.evaluation.tifa.types import Answer, Mapped, exact_match


class ExactMapping:
    """Takes an answer for the choice that reads the same, or for none."""

    identity = "exact-v1"

    def map(self, answer: Answer, choices: list[str]) -> Mapped:
        """Return the choice that is written like the answer, or ``Mapped("", "none")``."""
        choice = exact_match(answer.text, choices)
        return Mapped("", "none") if choice is None else Mapped(choice, "exact")
