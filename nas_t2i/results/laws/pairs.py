"""A law in the size of the training set: scores against image-noun pairs, across budgets.

A budget holds its data fixed, so the records of one can't say it. Studies whose budgets differ in
their data and in nothing else can: the same architectures, trained as long on more or less of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nas_t2i.data.embedded.training_set import training_set
from nas_t2i.errors import IncomparableError, RecordError
from nas_t2i.protocol.budget import recorded_budget
from nas_t2i.protocol.data import ShapesData
from nas_t2i.protocol.differences import differing
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import CurvePoint
from nas_t2i.results.entries import Entry
from nas_t2i.results.figures.ranked import RankedStudies, ranked
from nas_t2i.results.laws.scaling import Law, Points, Quantity, law_of, points_of
from nas_t2i.store import STUDY_FILE, Study, read_contents, without_collection

PAIRS = "pairs"
TITLE = "image-noun pairs of the training set"


@without_collection()
def read_by_budget(folders: Iterable[Path]) -> list[RankedStudies]:
    """Read studies and rank those of each budget together, in the order of their first study.

    Raises:
        RecordError: a study can't be read.
        IncomparableError: two metrics or metric signatures under one budget.
    """
    groups: defaultdict[str, list[Study]] = defaultdict(list)
    for folder in folders:
        study = read_contents(folder)
        groups[study.record.budget_id].append(study)
    return [ranked(studies) for studies in groups.values()]


def pairs_law(groups: Sequence[RankedStudies], metric: str = "", *, floor: bool = False) -> Law:
    """Fit a law in image-noun pairs on the Pareto front of what budgets reached at their ends.

    The bootstrap draws architectures, each with its scores under every budget.

    Args:
        groups: rankings, each of one budget.
        metric: default: what is ranked by.
        floor: whether the law has one.

    Raises:
        RecordError: nouns are not counted, their number does not vary, or as `scaling`.
        IncomparableError: budgets that differ in more than their data, or other scores.
        MissingExtraError: SciPy is not installed.
    """
    metric = metric or groups[-1].metric
    where = f"{', '.join(group.title for group in groups)}: {metric} against {PAIRS}"
    only_data_differ(groups)
    one_signature(groups, metric)
    sizes = [size_of(group) for group in groups]
    known = sorted({size for size in sizes if size is not None})
    if not known:
        raise RecordError(f"{where}: the records don't support this: nouns are not counted")
    if len(known) < 2:
        raise RecordError(
            f"{where}: the records don't support this: all are of {known[0]:,} image-noun pairs; "
            "expected studies of budgets that differ in their data"
        )
    merged: defaultdict[str, list[Points]] = defaultdict(list)
    signs = set()
    for group, size in zip(groups, sizes, strict=True):
        if size is None:
            continue
        found, sign = points_of(group, _quantity(size), metric)
        signs.add(sign)
        for arch_id, points in found.items():
            merged[arch_id].append(points)
    measured = [
        Points(np.concatenate([p.x for p in of]), np.concatenate([p.y for p in of]))
        for of in merged.values()
    ]
    return law_of(measured, min(signs), PAIRS, metric, where, floor=floor)


def size_of(group: RankedStudies) -> int | None:
    """Return the image-noun pairs that a budget's trials train on; None: they are not on record.

    Embedded captions are generated: of them it is known for records of earlier releases, too.
    """
    found: set[int] = {
        trial.training_set.image_noun_pairs
        for trial in group.trials
        if trial.training_set is not None and trial.training_set.image_noun_pairs is not None
    }
    if len(found) > 1:
        raise RecordError(
            f"{group.title}: trials of one budget with {' and '.join(map(str, sorted(found)))} "
            "image-noun pairs: the data changed, or the nouns were counted by two taggers"
        )
    if found:
        return found.pop()
    data = group.studies[0].record.budget.data.get("data", {})
    if not isinstance(data, Mapping) or data.get("source") != "shapes":
        return None
    return training_set(ShapesData.model_validate(data, strict=False)).image_noun_pairs


def only_data_differ(groups: Sequence[RankedStudies], section: str = "data") -> None:
    """Raise IncomparableError where budgets differ in more than a section of theirs."""
    others = differences(groups) - {section}
    others = {key for key in others if not key.startswith(f"{section}.")}
    if others:
        names = ", ".join(group.title for group in groups)
        raise IncomparableError(
            f"{names}: budgets that differ in {', '.join(sorted(others))}; expected one budget, or "
            f"budgets that differ in {section} alone"
        )


def differences(groups: Sequence[RankedStudies]) -> set[str]:
    """Return the key paths in which the budgets of any two groups differ. Raises RecordError."""
    if len(groups) < 2:
        return set()
    budgets = [
        recorded_budget(study.record.budget.data, study.folder / STUDY_FILE)
        for study in (group.studies[0] for group in groups)
    ]
    return {key for other in budgets[1:] for key in differing(budgets[0], other)}


def one_signature(groups: Sequence[RankedStudies], metric: str) -> None:
    """Raise IncomparableError where scores of a metric mean different things.

    A signal does under every budget: held-out pairs are each data set's own.
    """
    if len(groups) > 1 and metric in SIGNALS:
        raise IncomparableError(
            f"{metric}: is of each budget's own held-out pairs; expected a metric of prompts, "
            "which budgets of other data share"
        )
    points = [p for group in groups for trial in group.trials for p in trial.curve]
    signatures = {p.scores[metric].signature for p in points if metric in p.scores}
    if len(signatures) > 1:
        one, other = sorted(signatures)[:2]
        raise IncomparableError(
            f"{metric}: scores with the signatures {one} and {other} can't be compared"
        )


def _quantity(size: int) -> Quantity:
    def of(_entry: Entry, _point: CurvePoint) -> float:
        return float(size)

    return Quantity(TITLE, of, every_rung=False)
