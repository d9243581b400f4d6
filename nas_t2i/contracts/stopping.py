"""What a rule of early stopping keeps to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nas_t2i.contracts import Check
from nas_t2i.protocol.search import Contender, RacingRule, StoppingRule

_PROMPTS = 64


def checks(rule: StoppingRule) -> Iterator[Check]:
    """Check a rule with its settings."""
    if isinstance(rule, RacingRule):
        yield from _race_checks(rule)
        return
    noise = np.random.default_rng(0).normal(0, 0.1, _PROMPTS)
    scores = {str(i): 0.1 * i + noise for i in range(9)}
    yield Check("the best goes on", "" if rule.goes_on("8", scores, 0) else "it is stopped")
    alone = rule.goes_on("0", {"0": scores["0"]}, 0)
    yield Check("whoever is alone goes on", "" if alone else "it is stopped")
    decisions = [rule.goes_on(name, scores, 0) for name in scores]
    again = [rule.goes_on(name, scores, 0) for name in scores]
    yield Check("a decision is a function of the scores", "" if decisions == again else "no")
    monotone = decisions == sorted(decisions)
    yield Check("nobody stops who is better than one that goes on", "" if monotone else "no")
    line = rule.described([1, 2])
    yield Check("it is described in a line", "" if line and "\n" not in line else f"{line!r:.60}")


def _race_checks(rule: RacingRule) -> Iterator[Check]:
    draws = np.random.default_rng(0).normal(np.arange(9) / 3, 1.0, (200, 9))
    field = [Contender(str(i), 10 + i, True) for i in range(9)]
    chosen = rule.choose(field, draws)
    known = chosen is None or 0 <= chosen < len(field)
    yield Check("it chooses one of the contenders, or none", "" if known else f"{chosen!r:.60}")
    again = rule.choose(field, draws)
    yield Check("a choice is a function of what it is given", "" if chosen == again else "no")
    few = [Contender(c.name, c.steps, c.name == "4") for c in field]
    only = rule.choose(few, draws)
    yield Check("nobody is chosen who is not free", "" if only in (4, None) else f"{only!r:.60}")
    alone = rule.choose(field[:1], draws[:, :1])
    yield Check("whoever is alone may be chosen", "" if alone in (0, None) else f"{alone!r:.60}")
    if rule.FRONTS:
        dear = [Contender(c.name, c.steps, c.free, (9.0 - i,)) for i, c in enumerate(field)]
        both = np.stack([draws, draws[:, ::-1]], axis=-1)
        found = [rule.choose(dear, draws), rule.choose(dear, both), rule.choose(field, both)]
        odd = [one for one in found if one is not None and not 0 <= one < len(field)]
        yield Check(
            "it seeks fronts of costs, of scores and of both", f"{odd!r:.60}" if odd else ""
        )
    line = rule.described([1, 2])
    yield Check("it is described in a line", "" if line and "\n" not in line else f"{line!r:.60}")
