"""What a search seeks when it seeks several things at once: ``objectives: [tifa, -gmacs]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_t2i.errors import did_you_mean
from nas_t2i.protocol.evaluation import Better, EvaluationSettings
from nas_t2i.protocol.signals import SIGNALS

# Known of an architecture before anything is trained: no rungs, and taken for exact. compute:
# FLOPs of one run of what is trained, to the last rung. latency: the median of what was measured.
COSTS = ("gmacs", "params", "compute", "latency")
COUNTED = COSTS[:3]  # those that need no machine: of records of any


@dataclass(frozen=True)
class ObjectiveOf:
    """One thing that is sought."""

    name: str
    better: Better

    @property
    def exact(self) -> bool:
        """Whether it is known before training."""
        return self.name in COSTS

    @property
    def sign(self) -> int:
        """1 where larger is better, else -1."""
        return 1 if self.better == "larger" else -1

    def __str__(self) -> str:
        """As it is written: the sign says the direction."""
        return f"{'-' if self.sign < 0 else ''}{self.name}"


def read_objectives(
    texts: Sequence[str], evaluation: EvaluationSettings, *, signals: bool
) -> tuple[ObjectiveOf, ...]:
    """Return what ``tifa``, ``-gmacs`` and the like mean under a budget, in their order.

    `signals`: whether they are measured.

    Raises:
        ValueError: as `objectives_among`.
    """
    measured = dict(_measured(evaluation, signals))
    return objectives_among(texts, measured, "search.objectives")


def objectives_among(
    texts: Sequence[str], measured: Mapping[str, Better], place: str
) -> tuple[ObjectiveOf, ...]:
    """Return what ``tifa``, ``-gmacs`` and the like mean where so much is measured, in their order.

    `place` is what errors begin with.

    Raises:
        ValueError: an unknown one, one twice or turned round, fewer than two, or costs alone.
    """
    known = dict(measured) | dict.fromkeys(COSTS, "smaller")
    found: list[ObjectiveOf] = []
    for text in texts:
        name = text.strip().removeprefix("-")
        if name not in known:
            names = [str(ObjectiveOf(n, b)) for n, b in known.items()]
            hint = did_you_mean(text.strip(), names)
            raise ValueError(
                f"{place}: got {text!r}; expected some of {', '.join(names)}"
                + (f"; {hint}" if hint else "")
            )
        objective = ObjectiveOf(name, "smaller" if known[name] == "smaller" else "larger")
        if str(objective) != text.strip():
            raise ValueError(f"{place}: got {text!r}, which seeks the worst; expected {objective}")
        if objective in found:
            raise ValueError(f"{place}: got {text!r} twice; expected each once")
        found.append(objective)
    if len(found) == 1 or all(objective.exact for objective in found):
        raise ValueError(
            f"{place}: got {', '.join(map(str, found))}; expected two or more, one of "
            f"them measured, as {next(iter(known))}, -gmacs"
        )
    return tuple(found)


def _measured(evaluation: EvaluationSettings, signals: bool) -> Iterable[tuple[str, Better]]:
    yield evaluation.metric, evaluation.BETTER
    for metric in evaluation.metrics:
        yield metric.metric, metric.BETTER
    if signals:
        for name, kind in SIGNALS.items():
            yield name, kind.better
