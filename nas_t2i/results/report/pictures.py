"""The same prompts as drawn by the best, a middle one and the worst, cut from contact sheets."""

from __future__ import annotations

import base64
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from nas_t2i.evaluation.sampling.sheet_layout import CAPTIONS_KEY, COLUMNS, GAP, TEXT, TILE
from nas_t2i.records import TrialRecord
from nas_t2i.results.entries import point_at
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.search.trial_config import trial_key
from nas_t2i.store import TRIALS_FOLDER
from nas_t2i.untrusted.regular_files import MEGABYTE, read_regular

MOST_PROMPTS = 16
_SHEET = re.compile(r"pictures-(\d{6,9})\.png")
_MOST_BYTES = 16 * MEGABYTE
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_MOST_PIXELS = 4_000_000  # a sheet has under a million


@dataclass(frozen=True)
class Drawn:
    """One image: a data URI, and what its prompt scored (None: not on record)."""

    uri: str
    score: float | None


@dataclass(frozen=True)
class PictureRow:
    """What one architecture drew."""

    name: str
    rank: int
    step: int
    seed: int
    images: list[Drawn]


@dataclass(frozen=True)
class Prompt:
    """A caption: as text where the sheet holds it, else as it was drawn below the image."""

    text: str
    uri: str


@dataclass(frozen=True)
class Pictures:
    """Rows of images of the same prompts."""

    prompts: list[Prompt]
    rows: list[PictureRow]


def pictures(found: RankedStudies) -> Pictures | None:
    """Return what the best, a middle and the worst drew; None where no sheet is left."""
    folders = [_folders(study.folder) for study in found.studies]
    with_sheets = [
        (row, trial, *last_sheet)
        for row in found.sound
        for trial in _trials_of(found, row)[:1]
        if (last_sheet := _sheet(folders, trial))
    ]
    if not with_sheets:
        return None
    # Prompts are the same at every rung; images of one step can be compared.
    last = max(step for _, _, step, _ in with_sheets)
    alike = [entry for entry in with_sheets if entry[2] == last]
    places = sorted({0, len(alike) // 2, len(alike) - 1})
    rows = []
    prompts: list[Prompt] = []
    for row, trial, step, file in (alike[i] for i in places):
        sheet = open_sheet(file)
        if sheet is None:
            continue
        scores = _scores(trial, step, found.metric)
        if not prompts:
            known = len(_captions(sheet)) or len(scores) or MOST_PROMPTS
            prompts = _prompts(sheet, min(MOST_PROMPTS, known, _places(sheet)))
        images = _cut(sheet, scores, len(prompts))
        rows.append(PictureRow(row.name, row.rank, step, trial.seed, images))
    return Pictures(prompts, rows) if rows else None


def _trials_of(found: RankedStudies, row: LeaderboardRow) -> list[TrialRecord]:
    return [t for t in found.trials if t.arch_id == row.arch_id and t.control == row.control]


def _sheet(studies: Sequence[Mapping[str, Path]], trial: TrialRecord) -> tuple[int, Path] | None:
    """Return the step and file of a trial's last sheet, None where it has none."""
    for folders in studies:
        # Looked up among the folders that there are: an id from a record becomes no path.
        folder = folders.get(trial_key(trial.arch_id, trial.seed, trial.control))
        if folder is None or not folder.is_dir():
            continue
        sheets = {
            int(m[1]): file for file in folder.iterdir() if (m := _SHEET.fullmatch(file.name))
        }
        if sheets:
            return max(sheets), sheets[max(sheets)]
    return None


def _folders(study: Path) -> Mapping[str, Path]:
    place = study / TRIALS_FOLDER
    return {folder.name: folder for folder in place.iterdir()} if place.is_dir() else {}


def open_sheet(file: Path) -> Image.Image | None:
    """Return a sheet, None for a file that is none: a page is read for its numbers first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(read_regular(file, _MOST_BYTES)), formats=["PNG"])
        width, height = image.size
        if width * height > _MOST_PIXELS or _places(image) < 1:
            return None
        image.load()
    except (OSError, ValueError, SyntaxError, *_BOMBS):
        return None
    return image


def _places(sheet: Image.Image) -> int:
    columns = (sheet.width - GAP) // (TILE + GAP)
    rows = (sheet.height - GAP) // (TILE + TEXT + GAP)
    return columns * rows if columns == COLUMNS else 0


def _corners(count: int) -> list[tuple[int, int]]:
    return [
        (GAP + i % COLUMNS * (TILE + GAP), GAP + i // COLUMNS * (TILE + TEXT + GAP))
        for i in range(count)
    ]


def _cut(sheet: Image.Image, scores: Sequence[float], count: int) -> list[Drawn]:
    return [
        Drawn(_uri(sheet.crop((x, y, x + TILE, y + TILE))), scores[i] if i < len(scores) else None)
        for i, (x, y) in enumerate(_corners(count))
    ]


def _prompts(sheet: Image.Image, count: int) -> list[Prompt]:
    captions = _captions(sheet)
    return [
        Prompt(captions[i], "")
        if i < len(captions)
        else Prompt("", _uri(sheet.crop((x, y + TILE, x + TILE, y + TILE + TEXT))))
        for i, (x, y) in enumerate(_corners(count))
    ]


def _captions(sheet: Image.Image) -> list[str]:
    """Return the captions in a sheet; those of older releases hold none as text."""
    try:
        found = json.loads(str(sheet.info.get(CAPTIONS_KEY, "[]")))
    except ValueError:
        return []
    return [str(text) for text in found] if isinstance(found, list) else []


def _scores(trial: TrialRecord, step: int, metric: str) -> Sequence[float]:
    point = point_at(trial, step)
    score = point.scores.get(metric) if point else None
    return score.per_prompt if score else ()


def _uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
