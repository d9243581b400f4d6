"""Weights & Biases, by its own package; its own variables (WANDB_MODE=offline) hold."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nas_t2i.tracking.tracker import NOTHING, Row, Run, Tracker

if TYPE_CHECKING:
    from wandb import Run as WandbRun


class WandB(Tracker):
    """A project; the runs of a study are a group in it.

    Offline, a run that is begun again is written anew and its earlier folder removed, so that
    ``wandb sync`` uploads each run once, whole.
    """

    TAKES: ClassVar[str] = "PROJECT"
    PACKAGES: ClassVar[tuple[str, ...]] = ("wandb",)
    EXTRA: ClassVar[str] = "wandb"

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._runs: dict[str, WandbRun] = {}

    def begin(self, run: Run) -> int:
        """Begin a run with its config, or resume the one of the same id."""
        import wandb

        settings = wandb.setup().settings
        options: dict[str, Any] = {"resume": "allow"}
        if settings._offline:
            options = {}
            for old in Path(settings.wandb_dir).glob(f"offline-run-*-{run.key}"):
                shutil.rmtree(old)
        begun = wandb.init(
            project=self.where,
            id=run.key,
            name=run.name,
            group=run.study,
            config=dict(run.params),
            reinit="create_new",
            # What it would note of this process says nothing of the trial's.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
            **options,
        )
        self._runs[run.key] = begun
        return begun.step - 1 if begun.resumed else NOTHING

    def log(self, run: Run, rows: Sequence[Row]) -> None:
        """Log rows at their steps."""
        import wandb

        for row in rows:
            images = {name: wandb.Image(image) for name, image in row.images.items()}
            self._runs[run.key].log({**row.values, **images}, step=row.step)

    def end(self, run: Run, state: str, reason: str) -> None:
        """Finish a run: as one that failed where the trial did."""
        ended = self._runs.pop(run.key)
        ended.summary.update({"state": state, "reason": reason})
        ended.finish(exit_code=int(state in ("failed", "diverged")))

    def close(self) -> None:
        """Finish what is open, as runs that will be resumed."""
        import wandb

        for open_run in self._runs.values():
            open_run.finish()
        self._runs.clear()
        wandb.teardown()  # offline, a finished run may not be in its file before
