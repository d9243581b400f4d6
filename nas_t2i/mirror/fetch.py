"""What is brought from a URL: a study's records to read, or all that a search goes on from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from nas_t2i.environment import cache_dir
from nas_t2i.errors import UserError
from nas_t2i.files import make_folder, write_json
from nas_t2i.mirror.owner import OWNER_FILE, parse_owner
from nas_t2i.mirror.place import Entry, Place, cant, is_name, open_place
from nas_t2i.untrusted.json_text import JsonError, parse_json

CHECKPOINTS = "checkpoints"
WHOLE = ".whole"
"""Ends the name of the object that is put once all files of a checkpoint are there."""
_RECORDS = ("study.json", "config.json", "events.jsonl", "rungs.jsonl", "race.jsonl", OWNER_FILE)
_STEP = re.compile(r"step-\d{8,}")
_FETCHED = ".fetched.json"  # in a copy: which version of each object it holds


def is_of_checkpoint(name: str) -> bool:
    """Whether an object belongs to a checkpoint."""
    return CHECKPOINTS in name.split("/")[:-1]


def checkpoints_at(listing: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the whole checkpoints in a listing, oldest first, by the folder that they lie in."""
    found: dict[str, list[str]] = {}
    for name in sorted(listing):
        folder, _, tail = name.rpartition("/")
        if name.endswith(WHOLE) and folder.rpartition("/")[2] == CHECKPOINTS:
            found.setdefault(folder, []).append(tail.removesuffix(WHOLE))
    return found


def fetch_checkpoints(place: Place, folder: Path, trial: str = "") -> None:
    """Bring the whole checkpoints of a trial, its folder given from a place's, below `folder`."""
    name = f"{trial}/{CHECKPOINTS}" if trial else CHECKPOINTS
    there, here = place.at(name), folder / name
    listing = there.list()
    for step in (mark.removesuffix(WHOLE) for mark in listing if mark.endswith(WHOLE)):
        files = [file.removeprefix(f"{step}/") for file in listing if file.startswith(f"{step}/")]
        if _STEP.fullmatch(step) and files and not (here / step).exists():
            beside = here / f".fetched-{step}"
            shutil.rmtree(beside, ignore_errors=True)
            there.at(step).get_files(files, beside)
            beside.rename(here / step)


def copy_to_read(url: str, name: str, *, images: bool = False) -> Path | None:
    """Return a folder with the records of a study at a URL as they are now, perhaps its images.

    The folder lies in the cache and is not the one that a search works in. None: no such study.

    Raises:
        UserError: the URL can't be used.
    """
    place = open_place(url).at(name)
    folder = _copies(place) / name
    try:
        listing = place.list()
        if "study.json" not in listing:
            return None
        wanted = {
            name: entry
            for name, entry in listing.items()
            if not is_of_checkpoint(name)
            and (name.rpartition("/")[2] in _RECORDS or (images and name.endswith(".png")))
        }
        _make_equal(place, folder, wanted)
    except UserError:
        raise
    except Exception as error:
        raise cant("can't be read", place, error) from None
    return folder


def studies_at(url: str) -> list[str]:
    """Return the names of the studies at a URL, in no order. Raises UserError."""
    place = open_place(url)
    try:
        place.system.invalidate_cache()
        found = [str(path) for path in place.system.glob(f"{place.path}/*/study.json")]
    except Exception as error:
        raise cant("can't be read", place, error) from None
    return [name for name in (path.split("/")[-2] for path in found) if is_name(name)]


def fetch_checkpoint_to_read(url: str, name: str, trial: str) -> Path:
    """Bring the checkpoints of a trial too; return the trial's folder. Raises UserError."""
    place = open_place(url).at(name)
    folder = _copies(place) / name
    shutil.rmtree(folder / "trials" / trial / CHECKPOINTS, ignore_errors=True)
    try:
        fetch_checkpoints(place, folder, f"trials/{trial}")
    except Exception as error:
        raise cant("can't be read", place, error) from None
    return folder / "trials" / trial


def seems_searched(folder: Path) -> bool:
    """Whether a study that was copied to be read was being searched when it was copied."""
    try:
        content = (folder / OWNER_FILE).read_bytes()
    except OSError:
        return False
    return parse_owner(content, str(folder)).seems_there


def _copies(study: Place) -> Path:
    return cache_dir() / "results-read" / study.digest


def _make_equal(place: Place, folder: Path, wanted: dict[str, Entry]) -> None:
    """Fetch what is new or changed, and remove what is gone, of all that was fetched before."""
    make_folder(folder)
    state = folder / _FETCHED
    try:
        before: dict[str, str] = dict(parse_json(state.read_bytes())) if state.exists() else {}
    except (JsonError, OSError, ValueError):
        before = {}
    versions = {
        name: json.dumps([entry.size, entry.version]) if entry.version else ""
        for name, entry in wanted.items()
    }
    missing = [
        name
        for name, version in versions.items()
        if not version or before.get(name) != version or not (folder / name).exists()
    ]
    place.get_files(missing, folder)
    # An image that is not wanted now stays; a record that is gone there must not be read here.
    for name in before.keys() - versions.keys():
        if not name.endswith(".png"):
            (folder / name).unlink(missing_ok=True)
    kept = {name: version for name, version in before.items() if name.endswith(".png")}
    write_json(state, kept | versions)
