"""``nas-t2i validate``: are these files right, and what is in them?"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_t2i.cli.output.numbers import compact, gmacs_text
from nas_t2i.errors import UserError
from nas_t2i.untrusted.show import printable
from nas_t2i.yaml_files import Document, load_document

if TYPE_CHECKING:
    from nas_t2i.arch.space import Space


def validate_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Search-space and budget files.")
    ],
) -> None:
    """Check search-space and budget files; train nothing.

    One line a file: what it is, or file:line:column and what is wrong with it. All files are
    checked; the exit status is 2 if any is wrong.
    """
    wrong = 0
    for file in files:
        try:
            print(printable(f"{file}: {_describe(file)}"))
        except UserError as error:
            wrong += 1
            print(f"nas-t2i: error: {error}", file=sys.stderr)
    if wrong:
        raise typer.Exit(2)


def _describe(file: Path) -> str:
    """Return what a good file is, in words. Raises ConfigError for one that isn't."""
    from nas_t2i.arch.space import space_from_document

    document = load_document(file)
    if _is_budget(document):
        return _describe_budget(file)
    return _describe_space(space_from_document(document))


def _is_budget(document: Document) -> bool:
    """Recognise a file by its keys. Raises ConfigError if they are neither's."""
    from nas_t2i.arch.space_file import SpaceKeys
    from nas_t2i.protocol.budget import Budget

    common = Budget.model_fields.keys() & SpaceKeys.model_fields.keys()
    of_budget = len(document.data.keys() & (Budget.model_fields.keys() - common))
    of_space = len(document.data.keys() & (SpaceKeys.model_fields.keys() - common))
    if not of_budget and not of_space:
        document.fail(
            (),
            "neither a search space nor a budget",
            expected="the keys of a space (family, parameters, include, limits) or of a budget "
            "(data, training, evaluation, rungs, ...)",
        )
    return of_budget > of_space


def _describe_budget(file: Path) -> str:
    from nas_t2i.protocol.budget import load_budget
    from nas_t2i.protocol.rungs import described

    budget = load_budget(file)
    return (
        f"budget {budget.name} ({budget.budget_id}): {budget.training.steps} steps of batch "
        f"{budget.training.batch}, {described(budget.rungs)}; "
        f"{budget.search.trials} architectures x {budget.search.seeds_per_architecture} seed(s)"
    )


def _describe_space(space: Space) -> str:
    from nas_t2i.arch.profile import profile
    from nas_t2i.arch.reach import check_reachable, sizes

    profile_once = cache(profile)
    warning = check_reachable(space, profile_once)
    if warning:
        print(printable(f"nas-t2i: warning: {space.document.file}: {warning}"), file=sys.stderr)
    found = sizes(space, profile_once)
    count = f"{space.count():,}" if space.count_is_exact else f"at most {space.count():,}"
    noun = "architecture" if space.count() == 1 else "architectures"
    spread = "" if found.exact else f" (among {found.profiled} sampled)"
    limits = " before limits" if list(space.limits.items()) else ""
    return (
        f"space {space.name} ({space.space_id}): {count} {noun}{limits}, "
        f"{compact(found.fewest_params.params)} to {compact(found.most_params.params)} params, "
        f"{gmacs_text(found.fewest_gmacs.gmacs)} to {gmacs_text(found.most_gmacs.gmacs)} GMACs"
        f"{spread}"
    )
