"""Methods: a sampler and a stopping rule, as they are named on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from nas_t2i import plugins
from nas_t2i.errors import UserError, did_you_mean
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.search import RacingRule, SearchPlan
from nas_t2i.search.study import check_sampler
from nas_t2i.yaml_files import parse_document

SAMPLERS: tuple[str, ...] = get_args(SearchPlan.model_fields["sampler"].annotation)
_RULES = {"racing": "race"}  # what a rule is called here, and in budgets
_NAMED = re.compile(r"([\w:.-]+)(?:\[(.*)\])?")


@dataclass(frozen=True)
class Named:
    """A sampler or a stopping rule: its name, its settings, and how it was written."""

    text: str
    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """What is compared: who proposes, who stops, and how many trials run side by side."""

    sampler: Named
    stopper: Named
    workers: int

    @property
    def label(self) -> str:
        """Sampler and stopper in one word; methods of one number of workers differ in it."""
        return f"{self.sampler.text} + {self.stopper.text}"


@dataclass(frozen=True)
class Conditions:
    """What all methods have in common. Compute is in trials of mean cost to the last rung."""

    trials: int
    seeds: int
    """Seeds of an architecture, without a race; a race may give it all that are recorded."""
    recorded_seeds: int
    compute: float
    objectives: tuple[str, ...] = ()


def parse_list(text: str, option: str) -> list[Named]:
    """Return what ``tpe,nsga2[population_size=8],gp`` names.

    Raises:
        UserError: a name or a setting that can't be read, or one twice.
    """
    found = []
    for part in _split(text):
        match = _NAMED.fullmatch(part.strip())
        if match is None:
            raise UserError(
                f"{option}: got {part!r}; expected NAME or NAME[KEY=VALUE,KEY=VALUE], separated by "
                "commas"
            )
        settings: dict[str, Any] = {}
        for pair in filter(None, _split(match[2] or "")):
            key, equals, value = pair.partition("=")
            if not (key.strip().isidentifier() and equals):
                raise UserError(f"{option} {match[1]}: got {pair!r}; expected KEY=VALUE")
            settings |= parse_document(f"{key.strip()}: {value}", f"{option} {match[1]}").data
        found.append(Named(match[0], match[1], settings))
    twice = [one.text for i, one in enumerate(found) if one in found[:i]]
    if twice:
        raise UserError(f"{option}: got {twice[0]!r} twice; expected each once")
    return found


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def samplers(text: str) -> list[Named]:
    """Return the samplers of a list; each is tried. Raises UserError."""
    found = parse_list(text, "--samplers")
    for sampler in found:
        if sampler.name not in SAMPLERS:
            hint = did_you_mean(sampler.name, SAMPLERS)
            raise UserError(
                f"--samplers: got {sampler.name!r}; expected one of {', '.join(SAMPLERS)}"
                + (f"; {hint}" if hint else "")
            )
        check_sampler(sampler.name, sampler.settings)
    return found


def stoppers(text: str) -> list[Named]:
    """Return the stopping rules of a list: none, built-in ones, installed ones, module:Class.

    Raises:
        UserError: there is no such rule, or it does not load.
    """
    found = parse_list(text, "--stoppers")
    for stopper in found:
        name = _RULES.get(stopper.name, stopper.name)
        if stopper.name == "none":
            if stopper.settings:
                raise UserError("--stoppers none: expected no settings")
        elif plugins.is_known("stopping", name):
            # The folder of a module:Class is the one the command runs in.
            plugins.find("stopping", name, Path.cwd())
        else:
            known = ["none", *_RULES, *plugins.names("stopping")]
            hint = did_you_mean(name, known)
            raise UserError(
                f"--stoppers: got {stopper.name!r}; expected one of {', '.join(known)}, or "
                "module:Class" + (f"; {hint}" if hint else "")
            )
    return found


def budget_of(budget: Budget, method: Method, conditions: Conditions) -> Budget:
    """Return a table's budget with the search plan of one method.

    A race has the compute of the conditions to give away, and as many pieces ahead as places,
    unless its settings say otherwise.

    Raises:
        UserError: settings that the rule does not take, or that don't fit the rungs.
    """
    place = f"--stoppers {method.stopper.text}"
    racing = False
    rule: dict[str, Any] | None = None
    if method.stopper.name != "none":
        name = _RULES.get(method.stopper.name, method.stopper.name)
        racing = issubclass(plugins.find("stopping", name).cls, RacingRule)
        given = {"compute": conditions.compute, "ahead": max(4, method.workers)} if racing else {}
        rule = {"rule": name, **given, **method.stopper.settings}
    plan = budget.search.model_dump() | {
        "trials": conditions.trials,
        "seeds_per_architecture": conditions.recorded_seeds if racing else conditions.seeds,
        "parallel": method.workers,
        "sampler": method.sampler.name,
        "sampler_options": dict(method.sampler.settings),
        "early_stopping": rule,
        "objectives": conditions.objectives,
    }
    try:
        changed = budget.model_copy(update={"search": SearchPlan.model_validate(plan)})
        stopping = changed.search.early_stopping
        if stopping is not None:
            stopping.check(changed.decided_rungs)
            if stopping.judges_by() and not changed.signal_pairs:
                raise ValueError(f"got the signal {stopping.judges_by()!r}; none was measured")
        if isinstance(stopping, RacingRule):
            stopping.check_plan(changed.rungs, conditions.trials)
        changed.check_objectives()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{place}: {key}: {first['msg']}") from None
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    return changed


def methods(
    sampler_list: Sequence[Named], stopper_list: Sequence[Named], workers: Sequence[int]
) -> list[Method]:
    """Return every combination, by workers, then samplers, then stoppers."""
    return [
        Method(sampler, stopper, count)
        for count in workers
        for sampler in sampler_list
        for stopper in stopper_list
    ]
