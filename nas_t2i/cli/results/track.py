"""``nas-t2i results track``, and the options by which a search is tracked while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_t2i import plugins
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.errors import ConfigError, UserError
from nas_t2i.mirror.place import is_url
from nas_t2i.store import find_study
from nas_t2i.untrusted.redact import redacted

if TYPE_CHECKING:
    from nas_t2i.tracking.tracker import Tracker

TensorBoardOption = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Write scalars, images and hparams for TensorBoard into the study's folder.",
    ),
]
WandBOption = Annotated[
    str,
    typer.Option("--wandb", metavar="PROJECT", help="Log to this project of W&B."),
]
MlflowOption = Annotated[
    str,
    typer.Option(
        "--mlflow", metavar="URI", help="Log to MLflow: a server, or sqlite:///mlflow.db."
    ),
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=WHERE",
        help="Another tracker, such as tensorboard=DIR or my_file:MyTracker=WHERE; repeatable.",
    ),
]


def track_command(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    tensorboard: TensorBoardOption = False,
    wandb: WandBOption = "",
    mlflow: MlflowOption = "",
    track: TrackOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the search that is under way ends.")
    ] = False,
    results_dir: ResultsDirOption = "results",
) -> None:
    """Send a study to TensorBoard, W&B or MLflow: what a search does with the same options.

    A run is one trial, with every metric and signal by step, the architecture's parameters, params
    and GMACs; two more are of the search. What a tracker holds already is not sent again.

    \b
    Examples:
      nas-t2i results track sdxl-embedded --tensorboard
      tensorboard --logdir results/sdxl-embedded/tensorboard
      nas-t2i results track sdxl-embedded --mlflow sqlite:///mlflow.db
      WANDB_MODE=offline nas-t2i results track sdxl-embedded --wandb backbones
    """
    from nas_t2i.tracking.follow import Feed, send, tracking_lock
    from nas_t2i.tracking.follow import follow as follow_search

    if (tensorboard or follow) and (is_url(results_dir) or is_url(study)):
        raise UserError(
            "results track: got --tensorboard or --follow for a study at a URL; expected "
            "--track tensorboard=FOLDER, and a search's own options while it runs"
        )
    folder = find_study(study, results_dir, images=True)
    chosen = chosen_trackers(folder, tensorboard, wandb, mlflow, track)
    if not chosen:
        raise ConfigError(
            "results track",
            "got no tracker",
            expected="--tensorboard, --wandb PROJECT, --mlflow URI or --track NAME=WHERE",
        )
    with contextlib.ExitStack() as stack:
        feeds = []
        for name, tracker in chosen:
            stack.enter_context(tracking_lock(folder, name, tracker.where, patient=follow))
            feeds.append(Feed(name, tracker, folder))
        if follow:
            follow_search(folder, feeds, lambda line: print(line, flush=True))
        else:
            send(feeds)
            for (name, tracker), feed in zip(chosen, feeds, strict=True):
                print(redacted(f"{name}: {feed.trials} trial(s) in {tracker.where}"))


def chosen_trackers(
    folder: Path, tensorboard: bool, wandb: str, mlflow: str, track: Sequence[str] | None
) -> list[tuple[str, Tracker]]:
    """Return the trackers that options name, by name, each of which can work.

    Raises:
        ConfigError: no such tracker, or no such place.
        MissingExtraError: a package is not installed.
    """
    named = [("tensorboard", str(folder / "tensorboard"))] if tensorboard else []
    named += [("wandb", wandb)] if wandb else []
    named += [("mlflow", mlflow)] if mlflow else []
    named += [_split(text) for text in track or ()]
    chosen = []
    for name, where in dict.fromkeys(named):
        cls = plugins.find("trackers", name, Path.cwd()).cls
        if not where:
            raise ConfigError("--track", f"got {name!r}", expected=f"{name}={cls.TAKES}")
        tracker = cls(where)
        tracker.check()
        chosen.append((name, tracker))
    return chosen


def _split(text: str) -> tuple[str, str]:
    name, _, where = text.partition("=")
    return name, where
