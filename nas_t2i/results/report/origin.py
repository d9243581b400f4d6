"""Where a report's numbers come from, and the command that makes them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from nas_t2i.records import Environment, StudyRecord, TrialRecord
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.report.held_fixed import Term
from nas_t2i.store import Study
from nas_t2i.version import __version__


def command(study: StudyRecord, seeds: int) -> str:
    """Return the command that searches the same again; spaces and budgets go by their names.

    It holds for the shipped ones. A file of one's own is given by its path; its content is below.
    """
    plan = study.budget.data.get("search", {})
    parts = ["nas-t2i", "search", study.space.name, "--budget", study.budget.name]
    parts += ["--study", study.study, "--seed", str(study.seed)]
    if "trials" in plan:
        parts += ["--trials", str(plan["trials"])]
    parts += ["--seeds", str(seeds)]
    if plan.get("sampler") not in (None, "tpe"):
        parts += ["--sampler", str(plan["sampler"])]
    if "early_stopping" in plan and plan["early_stopping"] is None:
        parts.append("--no-early-stopping")
    if plan.get("reuse") is False:
        parts.append("--no-reuse")
    return shlex.join(parts)


def provenance(study: Study) -> list[Term]:
    """Return who trained what with which versions, of one study."""
    record = study.record
    environments = {e.model_dump_json(): e for t in study.trials if (e := t.environment)}
    kinds = list(environments.values()) or [record.environment]
    return [
        Term("study", record.study),
        Term("made", record.created.strftime("%Y-%m-%d %H:%M UTC")),
        Term("budget id", record.budget_id),
        Term("space id", record.space.space_id),
        Term("seeds", ", ".join(map(str, sorted({t.seed for t in study.trials}))) or "-"),
        Term("git revision", _all([e.git_revision for e in kinds])),
        Term("hardware", _all([_hardware(e) for e in kinds])),
        Term("platform", _all([f"{e.platform}, Python {e.python}" for e in kinds])),
        Term("versions", _all([_versions(e) for e in kinds])),
        Term("inputs", _all([_pairs(t.inputs) for t in study.trials])),
        Term("reused", _all([_reused(t) for t in study.trials]) or "none"),
        Term("plug-ins", _all([o.model_dump_json() for o in record.plugins]) or "none"),
        Term("storage", record.storage),
    ]


def _reused(trial: TrialRecord) -> str:
    if trial.reused is None:
        return ""
    revision = f" at {trial.reused.git_revision}" if trial.reused.git_revision else ""
    return f"{trial.name} seed {trial.seed}, trained in {trial.reused.path}{revision}"


def files(study: StudyRecord) -> list[Term]:
    """Return the space and the budget as they were validated, as JSON."""
    return [
        Term(f"space {study.space.name}", json.dumps(study.space.data, indent=1)),
        Term(f"budget {study.budget.name}", json.dumps(study.budget.data, indent=1)),
    ]


def made_by(found: RankedStudies) -> str:
    """Return what wrote the page."""
    names = " ".join(shlex.quote(study.record.study) for study in found.studies)
    return f"nas-t2i {__version__}: nas-t2i results report {names}"


def _hardware(environment: Environment) -> str:
    cpu = environment.cpu or "unknown CPU"
    return (
        f"{cpu}, {environment.cores} cores, {environment.threads} threads a trial; accelerator: "
        f"{environment.accelerator}"
    )


def _versions(environment: Environment) -> str:
    return _pairs({"nas-t2i": environment.nas_t2i, **environment.versions})


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _all(texts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
