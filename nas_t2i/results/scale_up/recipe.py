"""The budget of a full-scale run: a recipe, with what its user asks for in place of what it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_t2i.errors import UserError
from nas_t2i.protocol.budget import Budget, load_budget, recorded_budget
from nas_t2i.protocol.data import PairsData
from nas_t2i.protocol.rungs import Rungs
from nas_t2i.records import StudyRecord
from nas_t2i.results.scale_up.annotated import comments, heading, written
from nas_t2i.untrusted.redact import HIDDEN
from nas_t2i.yaml_files import Path_, load_document, parse_document, parse_model


@dataclass(frozen=True)
class Recipe:
    """A budget to start from, what is written beside its values, and where it is from."""

    budget: Budget
    title: str
    heading: tuple[str, ...] = ()
    notes: Mapping[Path_, str] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """The budget as plain data, optional keys at their defaults left out."""
        found: dict[str, Any] = self.budget.model_dump(mode="json", exclude_defaults=True)
        return found


@dataclass(frozen=True)
class Wish:
    """A value that its user asks for: where it stands in a budget, and by which option."""

    path: Path_
    option: str
    value: Any


def recipe_of_file(file: Path) -> Recipe:
    """Read a recipe with its comments.

    Raises:
        ConfigError: no budget.
        UserError: a budget of the embedded data, which no full-scale run is of.
    """
    budget = load_budget(file)
    if not isinstance(budget.data, PairsData):
        raise UserError(
            f"--recipe {file}: got a budget of the embedded shapes; expected one of pairs of your "
            "own, such as paper_256"
        )
    document, text = load_document(file), file.read_text(encoding="utf-8")
    return Recipe(
        budget,
        f"budget {budget.name} ({file.name}, {budget.budget_id})",
        tuple(heading(text)),
        comments(document, text),
    )


def recipe_of_study(record: StudyRecord, file: Path) -> Recipe | None:
    """Return a study's own budget, where its data are its user's; None: they are embedded.

    Raises:
        RecordError: `file` holds no budget.
        UserError: a password that the budget needs is not on record.
    """
    budget = recorded_budget(record.budget.data, file)
    data = budget.data
    if not isinstance(data, PairsData) or all(source.EMBEDDED for source in data.sources):
        return None
    if HIDDEN in budget.model_dump_json():
        raise UserError(
            f"{file}: the study's budget holds a secret, which is not on record; expected "
            "--recipe and the budget's file"
        )
    return Recipe(budget, f"the budget of study {record.study} ({record.budget_id})")


def full_scale(recipe: Recipe, wishes: list[Wish]) -> tuple[dict[str, Any], dict[Path_, str]]:
    """Return the data of a full-scale budget and the notes on its values.

    The full architecture is trained, to the end, once; rungs keep their shares of the steps.
    """
    data, notes = recipe.data, dict(recipe.notes)
    data["name"] = "full_scale"
    data["proxy"] = None
    notes["proxy",] = "the full architecture is trained"
    for wish in wishes:
        old = _set(data, wish.path, wish.value)
        notes[wish.path] = wish.option + ("" if old is None else f"; the recipe has {_short(old)}")
    _drop_notes_inside(notes, {wish.path for wish in wishes})
    budget, steps = recipe.budget, data["training"]["steps"]
    if steps != budget.training.steps:
        data["rungs"] = _rungs(budget, steps)
        notes["rungs",] = "the recipe's shares of the steps"
    data["search"] |= {
        "trials": 1,
        "seeds_per_architecture": 1,
        "parallel": 1,
        "sampler": "random",
        "sampler_options": {},
        "early_stopping": None,
    }
    notes["search",] = "one architecture, one seed, to the end"
    _drop_notes_inside(notes, {("search",)})
    if data["data"].get("cache") is not None:
        notes["data", "cache"] = "filled by nas-t2i data prepare with this file"
    return data, notes


def checked(data: Mapping[str, Any], notes: Mapping[Path_, str], file: Path) -> tuple[str, Budget]:
    """Return a budget's text and what the program reads from it. Raises ConfigError."""
    text = written(data, notes)
    return text, parse_model(parse_document(text, f"{file} (not written)"), Budget)


def _set(data: dict[str, Any], path: Path_, value: Any) -> Any:
    """Set a value, its parents made where they are missing; return what stood there."""
    *parents, last = path
    for key in parents:
        data = data.setdefault(key, {})  # type: ignore[arg-type]
    old = data.get(last)  # type: ignore[arg-type]
    data[last] = value  # type: ignore[index]
    return old


def _drop_notes_inside(notes: dict[Path_, str], replaced: set[Path_]) -> None:
    for path in list(notes):
        if any(path[: len(other)] == other and path != other for other in replaced):
            del notes[path]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} of its own"
    return str(value)


def _rungs(budget: Budget, steps: int) -> Any:
    """Return the recipe's rungs at the same shares of other steps, as a budget writes them."""
    share = steps / budget.training.steps
    full = sorted({max(1, round(rung * share)) for rung in budget.full_rungs})
    full[-1] = steps
    cheap = budget.rungs.cheap if isinstance(budget.rungs, Rungs) else ()
    alone = sorted({max(1, round(rung * share)) for rung in cheap} - set(full))
    return {"signals": alone, "full": full} if alone else full
