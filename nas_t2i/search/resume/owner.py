"""Whose a study in an Optuna storage is: one results folder's, of one space, budget and seed."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path

from nas_t2i.errors import StorageError
from nas_t2i.search.study import OptunaStudy
from nas_t2i.store import STUDY_FILE


def own(
    study: OptunaStudy,
    folder: Path,
    settings: Mapping[str, str],
    *,
    shared: bool,
    url: str = "",
) -> None:
    """Take a storage's study for a folder, or check that it is this folder's.

    `settings` are what all of a study's trials share, by name. A folder that was moved stays the
    owner: it is known by its study.json, which is written once. `shared`: others may use the
    storage, too; one that is not lies in the folder itself and moves with it. `url` is where the
    study lies, if that is not the folder.

    Raises:
        StorageError: it is another's.
    """
    known, place = study.owner, url or _place(folder)
    _refuse_others(study, known, folder, place, settings, shared=shared)
    now = dict(settings) | {"folder": place}
    if (folder / STUDY_FILE).exists():
        now["study_file"] = _digest(folder)
        if known != now:
            study.owner = now
    elif not known and shared and study.count():
        raise StorageError(
            f"storage {study.shown} holds a study of this name that {folder} knows nothing of; "
            "choose another --study"
        )


def _refuse_others(
    study: OptunaStudy,
    known: Mapping[str, str],
    folder: Path,
    place: str,
    settings: Mapping[str, str],
    *,
    shared: bool,
) -> None:
    differences = [
        f"{name} {known[name]} there, {value} here"
        for name, value in settings.items()
        if name in known and known[name] != value
    ]
    other = known.get("folder", "")
    if shared and "study_file" in known:
        here = _digest(folder) if (folder / STUDY_FILE).exists() else ""
        if here != known["study_file"]:
            differences.append(f"it is searched in {other}, not in {place}")
        elif other != place and _is_still_there(other, here):
            differences.append(f"{place} is a copy of {other}, where it is searched")
    if differences:
        raise StorageError(
            f"storage {study.shown}: its study of this name belongs to another search "
            f"({'; '.join(differences)}); choose another --study"
        )


def _is_still_there(place: str, digest: str) -> bool:
    host, _, path = place.partition(":")
    return host == socket.gethostname() and _digest(Path(path)) == digest


def _digest(folder: Path) -> str:
    try:
        return hashlib.blake2b((folder / STUDY_FILE).read_bytes(), digest_size=8).hexdigest()
    except OSError:
        return ""


def _place(folder: Path) -> str:
    return f"{socket.gethostname()}:{folder.absolute()}"
