"""What was searched and what was held fixed, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nas_t2i.errors import number_of
from nas_t2i.records import StudyRecord
from nas_t2i.results.metrics import display_name

_VARIES = ("choice", "choices", "low", "high", "min", "max", "range", "int", "float")


class Term(NamedTuple):
    """A line of a list: what, and its value."""

    name: str
    value: str


def searched(study: StudyRecord) -> list[Term]:
    """Return what of the space varied, then what it fixed and the limits on candidates."""
    data = study.space.data
    varied: list[Term] = []
    fixed: list[Term] = []
    for path, value in _leaves(data.get("parameters", {})):
        (varied if isinstance(value, dict) else fixed).append(Term(path, plain(value)))
    terms = [Term("space", f"{study.space.name} ({study.space.space_id})")]
    terms += [Term(f"{name}, varied", value) for name, value in varied]
    if fixed:
        terms.append(Term("fixed", "; ".join(f"{name} {value}" for name, value in fixed)))
    for key, value in data.items():
        if key not in ("name", "parameters") and value not in (None, {}, []):
            terms.append(Term(key, plain(value)))
    return terms


def held_fixed(study: StudyRecord, seeds: int) -> list[Term]:
    """Return the budget, section by section: what decides scores, and how trials are compared."""
    chance = "" if study.chance is None else f", chance level {study.chance:.3f}"
    terms = [
        Term("budget", f"{study.budget.name} ({study.budget_id})"),
        Term("ranked by", f"{display_name(study.metric)}{chance}"),
        Term("rungs", f"steps {', '.join(map(str, study.rungs))}"),
        Term("seeds", f"up to {number_of(seeds, 'seed')} an architecture"),
    ]
    if study.stop_rule:
        terms.append(Term("early stopping", study.stop_rule))
    if study.note:
        terms.append(Term("note", study.note))
    for key, value in study.budget.data.items():
        if key in ("name", "rungs", "search", "execution") or value is None:
            continue
        terms.append(Term(key.replace("_", " "), plain(value)))
    return terms


def plain(value: object) -> str:
    """Return a value of a YAML file on one line, without braces where none are needed."""
    if isinstance(value, Mapping):
        keys = set(value)
        if keys == {"choice"}:
            return "one of " + ", ".join(_short(item) for item in value["choice"])
        return "; ".join(
            f"{key.replace('_', ' ')} {_short(item)}"
            for key, item in value.items()
            if item is not None and item not in ({}, [])
        )
    return _short(value)


def _short(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "(" + plain(value) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    return json.dumps(value)


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield what a space says of each parameter; a mapping of levels is taken apart."""
    if isinstance(value, Mapping) and not set(value) & set(_VARIES):
        for key, item in value.items():
            yield from _leaves(item, f"{path}[{key}]" if path else str(key))
    elif path:
        yield path, value
