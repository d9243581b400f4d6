"""A finding: a question, its answer and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass

FEW = 3
"""Pairs; of fewer an answer says so."""


@dataclass(frozen=True)
class Difference:
    """What was compared: a mean difference of scores with its 95 % interval."""

    what: str
    value: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True)
class Statement:
    """One question, what these records answer, and what the paper says."""

    key: str
    question: str
    answer: str
    supported: bool
    """Whether the records allow an answer, if only that nothing can be told."""
    difference: Difference | None
    records: tuple[str, ...]
    """The architectures that it rests on."""
    paper: str
