"""Whether the files that a study's budget names still hold what they held when it began."""

from __future__ import annotations

from pathlib import Path

from nas_t2i.errors import StorageError
from nas_t2i.evaluation.at_rung import contents
from nas_t2i.protocol.budget import Budget
from nas_t2i.store import STUDY_FILE, read_contents


def check_same_content(folder: Path, budget: Budget) -> None:
    """Check the study in `folder`, if it has begun; a budget's id holds the paths of files only.

    Told before more is trained: the leaderboard would not rank the scores together.

    Raises:
        StorageError: a file changed.
    """
    if not (folder / STUDY_FILE).exists():
        return
    now = contents(budget)
    for trial in read_contents(folder).trials if now else []:
        for point in trial.curve:
            for name in now.keys() & point.scores.keys():
                if not point.scores[name].is_of(now[name].part):
                    raise StorageError(
                        f"study {folder.name!r} in {folder.parent}: the questions of "
                        f"{name} in {now[name].file} changed since it began; choose another "
                        "--study, or restore the file"
                    )
