"""A study keeps to what it began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_t2i import plugins
from nas_t2i.errors import StorageError
from nas_t2i.plugins import Origin
from nas_t2i.protocol.budget import Budget
from nas_t2i.store import STUDY_FILE, read_study


@dataclass(frozen=True)
class Settings:
    """What must be the same whenever a study is carried on."""

    space: str
    """Its id."""
    budget: Budget
    seed: int
    warm_start: str
    storage: str


def check_same_settings(folder: Path, now: Settings) -> None:
    """A study has one space, one budget and one seed.

    Raises:
        StorageError: the study in `folder` has others; names what differs.
    """
    if not (folder / STUDY_FILE).exists():
        return
    record = read_study(folder)
    differences = [
        f"{what} {old} then, {new} now"
        for what, old, new in (
            ("space", record.space.space_id, now.space),
            ("budget", record.budget_id, now.budget.budget_id),
            ("seed", record.seed, now.seed),
            ("--from", record.warm_start or "none", now.warm_start or "none"),
            (
                "objectives",
                ", ".join(record.budget.data["search"].get("objectives", [])) or "none",
                ", ".join(now.budget.search.objectives) or "none",
            ),
            ("storage", record.storage, now.storage),
            ("plug-ins", _listed(record.plugins), _listed(plugins.used())),
        )
        if old != new
    ]
    if differences:
        raise StorageError(
            f"study {folder.name!r} in {folder.parent} was started with other settings "
            f"({'; '.join(differences)}); choose another --study, or the settings it began with"
        )


def _listed(origins: Sequence[Origin]) -> str:
    return ", ".join(f"{origin.name} of {origin.text}" for origin in origins) or "none"
