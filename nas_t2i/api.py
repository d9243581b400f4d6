"""What the commands do, from Python: `import nas_t2i`; docs/python.md shows it in use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.space import Space
from nas_t2i.arch.space import load_space as _load_space
from nas_t2i.arch.spec import Arch
from nas_t2i.benchmark.table import Table
from nas_t2i.environment import cache_dir
from nas_t2i.errors import ConfigError, MissingExtraError, PausedError, UserError
from nas_t2i.mirror.place import is_url
from nas_t2i.mirror.study import Mirror
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.budget import load_budget as _load_budget
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.records import Profile, StudyRecord, TrialRecord
from nas_t2i.results.leaderboard import LeaderboardRow, rank_trials
from nas_t2i.results.tables.exports import write_leaderboard
from nas_t2i.results.tables.tabular import to_records
from nas_t2i.shipped import find_file
from nas_t2i.store import STUDY_FILE, Study, find_studies, find_study, read_contents

if TYPE_CHECKING:
    import pandas

    from nas_t2i.evaluation.standalone.evaluate import Evaluation

Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def _quiet(_what: str, _done: int, _of: int) -> None:
    pass


@dataclass(frozen=True)
class Results:
    """What studies have measured, read from their folders."""

    contents: Sequence[Study]

    @property
    def studies(self) -> list[StudyRecord]:
        """The studies' records, the newest last."""
        return [study.record for study in self.contents]

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials, study by study, in order of their start."""
        return [trial for study in self.contents for trial in study.trials]

    def leaderboard(self) -> list[LeaderboardRow]:
        """Return one ranking of all architectures, best first.

        Raises:
            IncomparableError: two metrics, budgets or metric signatures among the trials.
        """
        return rank_trials(self.trials)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the ranking as a data frame, with the columns of the CSV export.

        Raises:
            IncomparableError: as `leaderboard`.
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("a data frame", "pandas") from None
        return pandas.DataFrame.from_records(to_records(self.leaderboard()))

    def __repr__(self) -> str:
        names = ", ".join(record.study for record in self.studies)
        return f"<Results of {names or 'no study'}: {len(self.trials)} trials>"


def load_space(space: str | Path) -> Space:
    """Read a search space: a file, or the name of a shipped one. Raises ConfigError."""
    return _load_space(find_file(str(space), "search_spaces"))


def load_budget(budget: str | Path) -> Budget:
    """Read a budget: a file, or the name of a shipped one. Raises ConfigError."""
    return _load_budget(find_file(str(budget), "budgets"))


def profile(arch: Arch | str, *, latent_size: int = 32, text_tokens: int = 77) -> Profile:
    """Count parameters and GMACs of an architecture, exactly and without weights.

    Args:
        arch: an architecture, a name of the paper's, a file, or inline text such as
            ``family=unet,channels=320,...``.
        latent_size: side of the square latent, in latent pixels.
        text_tokens: tokens of the text.

    Raises:
        ArchError: no such architecture, or latents that do not fit it.
    """
    from nas_t2i.arch.profile import profile as count

    if isinstance(arch, Arch):
        return count(arch, latent_size=latent_size, text_tokens=text_tokens)
    found = resolve_arch(arch)
    return count(found.arch, latent_size=latent_size, text_tokens=text_tokens, name=found.name)


def search(
    space: Space | str | Path,
    budget: Budget | str | Path = "embedded",
    *,
    study: str = "",
    results_dir: str | Path = "results",
    seed: int = 0,
    storage: str = "",
    controls: bool = False,
    retry_failed: bool = False,
    runner: str = "",
    say: Say = _silent,
    **plan: Any,
) -> Results:
    """Search, or carry on with a search, and return what is known of it at its end.

    Args:
        space: a space, a file, or the name of a shipped one.
        budget: likewise.
        study: its name; default: the space's and the budget's.
        results_dir: the folder that holds the studies, or its URL.
        seed: of the study; trials have this one and those after it.
        storage: URL of the Optuna storage; default: a journal in the study's folder.
        controls: also train the controls that must stay at chance.
        retry_failed: run trials again that failed earlier.
        runner: what starts trials, "local", "ray" or "ray:HOST:PORT"; default: as the budget says.
        say: takes what is to be known while it runs, a line at a time.
        plan: keys of the budget's ``search`` to set otherwise, such as ``trials=4``.

    Raises:
        UserError: whatever ``nas-t2i search`` would say in one line.
    """
    from nas_t2i.search.launch import with_plan, with_runner
    from nas_t2i.search.session import SearchRequest, run_search

    loaded = space if isinstance(space, Space) else load_space(space)
    whole = budget if isinstance(budget, Budget) else load_budget(budget)
    if runner:
        whole = with_runner(whole, runner)
    name = study or f"{loaded.name}-{whole.name}"
    mirror = None
    if is_url(results_dir):
        by_nodes = whole.execution.runner != "local"
        mirror = Mirror(str(results_dir), name, nodes_write=by_nodes)
    request = SearchRequest(
        space=loaded,
        budget=with_plan(whole, plan),
        study=name,
        results_dir=Path(results_dir) if mirror is None else mirror.root,
        storage=storage,
        seed=seed,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        controls=controls,
        retry_failed=retry_failed,
        mirror=mirror,
    )
    with contextlib.ExitStack() as opened:
        if mirror is not None:
            mirror.say = say
            opened.enter_context(mirror.open())
        try:
            run_search(request, lambda *_: _Silence(), say)
        finally:
            if (request.folder / STUDY_FILE).exists():
                write_leaderboard(request.folder)
    if mirror is not None and mirror.unsent:
        raise PausedError(f"{mirror.url}: could not be sent: {mirror.unsent}")
    return load_results(request.folder)


def evaluate(
    source: str | Path | None = None,
    *,
    images: str | Path | None = None,
    metrics: Mapping[str, Mapping[str, Any]],
    device: str = "cpu",
    log: str | Path | None = None,
    **options: Any,
) -> Evaluation:
    """Score images, or what a trial or a diffusers model draws.

    Args:
        source: a folder of images, of a trial or of a diffusers model.
        images: instead of it, a map ``{id: path}`` of images, JSON.
        metrics: by name, the keys that each would have in a budget; of ``tifa`` those of
            `nas_t2i.evaluation.standalone.request.TifaOptions`, such as ``questions`` and ``vqa``;
            of a signal, such as ``text_gain``, none.
        device: cpu, cuda or cuda:N.
        log: where answers and scores are kept as they come; default: in memory.
        options: of `nas_t2i.evaluation.standalone.request.Request`, such as ``prompts``.

    Raises:
        UserError: whatever ``nas-t2i evaluate`` would say in one line.
    """
    from nas_t2i import plugins
    from nas_t2i.evaluation.standalone.evaluate import evaluate as run
    from nas_t2i.evaluation.standalone.request import Request, TifaOptions, make_plan

    given = {name: dict(keys) for name, keys in metrics.items()}
    for name, keys in given.items():
        if name in SIGNALS and keys:
            raise ConfigError(f"metrics.{name}", f"got {', '.join(keys)}", expected="no keys")
    tifa = given.get("tifa", {})
    if "questions" in tifa:
        tifa["questions"] = Path(tifa["questions"])
    request = Request(
        metrics=tuple(given),
        source=None if source is None else Path(source),
        images=None if images is None else Path(images),
        tifa=TifaOptions(**tifa),
        settings={
            name: plugins.find("metrics", name).cls(metric=name, **keys)
            for name, keys in given.items()
            if name != "tifa" and name not in SIGNALS
        },
        **options,
    )
    cache = cache_dir()
    return run(make_plan(request, cache), None if log is None else Path(log), cache, device, _quiet)


def load_results(place: str | Path = "results") -> Results:
    """Read a study's folder, or every study in a folder that holds them; either may be a URL.

    Raises:
        UserError: no study there, or a record that can't be read.
    """
    if is_url(place):
        found = find_studies(place) or [find_study(str(place))]
        return Results([read_contents(study) for study in found])
    folder = Path(place)
    if (folder / STUDY_FILE).exists():
        return Results([read_contents(folder)])
    found = find_studies(folder)
    if not found:
        raise UserError(f"{folder}: no study; expected a study's folder, or one that holds them")
    return Results([read_contents(study) for study in found])


def load_table(file: str | Path) -> Table:
    """Read a tabular benchmark, a file of `nas-t2i benchmark build`; docs/benchmark.md.

    Raises:
        RecordError: missing, cut, damaged, of a newer release, or no table.
    """
    return Table.load(file)


class _Silence:
    """A listener that says nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_: None
