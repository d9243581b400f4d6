"""A full-scale run of one architecture of a study: its files, and what it takes and may reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_t2i import plugins
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.errors import RecordError, UserError, did_you_mean, named
from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.protocol.data import PairsData
from nas_t2i.records import TrialRecord
from nas_t2i.results.figures.ranked import RankedStudies, read_ranked
from nas_t2i.results.figures.wording import duration, number, percent, scaled
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.scale_up.cost import (
    Throughput,
    Work,
    by_images,
    by_latency,
    by_tflops,
    work_of,
)
from nas_t2i.results.scale_up.files import FullScale, compose
from nas_t2i.results.scale_up.recipe import (
    Recipe,
    Wish,
    checked,
    full_scale,
    recipe_of_file,
    recipe_of_study,
)
from nas_t2i.results.scale_up.score import predicted_score
from nas_t2i.shipped import find_file
from nas_t2i.store import STUDY_FILE
from nas_t2i.version import __version__

DEFAULT_RECIPE = "paper_256"


@dataclass(frozen=True)
class Request:
    """What its user asks for. Of the three throughputs at most one is given."""

    study: Path
    name: str = ""
    """Of the architecture; "": the winner."""
    recipe: str = ""
    """A budget's file or shipped name; "": the study's own, if its data are real, or paper_256."""
    wishes: Sequence[Wish] = ()
    images_per_second: float | None = None
    tflops: float | None = None
    latency: Path | None = None


@dataclass(frozen=True)
class Chosen:
    """The architecture, and where the study has it."""

    row: LeaderboardRow
    trial: TrialRecord

    @property
    def name(self) -> str:
        """Its name."""
        return self.row.name


@dataclass(frozen=True)
class Plan:
    """What would be written, and what is to be said of it."""

    full: FullScale
    budget: Budget
    work: Work
    throughput: Throughput | None
    lines: tuple[str, ...]


def choose(found: RankedStudies, name: str = "") -> Chosen:
    """Return an architecture of a study by its name, or the winner.

    Raises:
        RecordError: nothing is ranked yet.
        UserError: the study has none of that name.
    """
    rows = [row for row in found.rows if not row.control]
    if not name:
        if not found.sound:
            raise RecordError(f"{found.title}: nothing is ranked yet; expected scores, or --name")
        row = found.sound[0]
    else:
        names = {row.name: row for row in rows}
        if name not in names:
            hint = did_you_mean(name, names)
            text = (
                f"--name: got {name!r}; expected an architecture of {found.title}: {named(names)}"
            )
            raise UserError(f"{text}; {hint}" if hint else text)
        row = names[name]
    trial = next(t for t in found.trials if t.arch_id == row.arch_id and not t.control)
    return Chosen(row, trial)


def plan(request: Request, found: RankedStudies, chosen: Chosen, folder: Path) -> Plan:
    """Make the files of a full-scale run and predict what can be predicted; write nothing.

    `folder` is where the files will lie.

    Raises:
        UserError: options, a recipe or a record of latency that can't be used.
    """
    record = found.studies[0].record
    plugins.restore(record.plugins)
    file = request.study / STUDY_FILE
    recipe = _recipe(request, found)
    data, notes = full_scale(recipe, list(request.wishes))
    text, budget = checked(data, notes, folder / "budget.yaml")
    arch = arch_from_dict(chosen.trial.arch, f"{request.study}: {chosen.name}")
    work = work_of(arch, budget)
    throughput = _throughput(request, work, budget)
    studied = recorded_budget(record.budget.data, file)
    lines = (
        f"{chosen.name} ({arch.arch_id}) at full scale: {_standing(found, chosen)}",
        f"Written by nas-t2i {__version__} from {recipe.title}: values are that recipe's where the "
        "comment names no option.",
        *recipe.heading,
        *_data_lines(recipe, budget),
        *(
            f"Needs {origin.name} of {origin.text}: copy it beside the budget."
            for origin in record.plugins
            if origin.file
        ),
        *_cost_lines(work, budget, throughput),
        *predicted_score(found, studied, budget, work.training_flops),
    )
    return Plan(compose(chosen.name, arch, text, lines, folder), budget, work, throughput, lines)


def read(study: Path) -> RankedStudies:
    """Read a study. Raises RecordError."""
    return read_ranked([study])


def _recipe(request: Request, found: RankedStudies) -> Recipe:
    if request.recipe:
        return recipe_of_file(find_file(request.recipe, "budgets"))
    own = recipe_of_study(found.studies[0].record, request.study / STUDY_FILE)
    return own or recipe_of_file(find_file(DEFAULT_RECIPE, "budgets"))


def _throughput(request: Request, work: Work, budget: Budget) -> Throughput | None:
    if request.images_per_second is not None:
        return by_images(request.images_per_second)
    if request.tflops is not None:
        return by_tflops(request.tflops, work, budget.execution.ranks)
    if request.latency is not None:
        return by_latency(request.latency, work, budget)
    return None


def _standing(found: RankedStudies, chosen: Chosen) -> str:
    """Say where the architecture stands in the study, and what can't be told from it."""
    row = chosen.row
    if row.probability_best is None:
        return f"study {found.title} has no score of it to rank it by"
    said = (
        f"rank {row.rank} of study {found.title}, the best with probability "
        f"{percent(row.probability_best)}, rank {row.rank_low} to {row.rank_high} with 95 %"
    )
    if row.tied_with:
        said += f"; not told apart from {named(row.tied_with)}"
    return said


def _cost_lines(work: Work, budget: Budget, throughput: Throughput | None) -> list[str]:
    p, training = work.profile, budget.training
    lines = [
        f"{scaled(p.params)} parameters; {p.gmacs:.2f} GMACs a forward pass at "
        f"{p.latent_size}x{p.latent_size} latents and {p.text_tokens} tokens of text, counted.",
        f"Training compute: 3 x 2 x {p.gmacs:.2f}e9 MACs x {training.batch} images x "
        f"{training.steps} steps = {number(work.training_flops)} FLOPs (a multiply-add is two, a "
        "backward pass two forward ones: C = 3 x forward FLOPs x batch x steps, arXiv 2404.02883).",
        f"Measuring at {len(budget.rungs)} rungs: {work.evaluation_passes:,} forward passes, "
        f"{number(work.evaluation_flops)} FLOPs, "
        f"{100 * work.evaluation_flops / work.training_flops:.1g} % of that.",
    ]
    if work.assumed:
        lines.append(f"Not checked: {work.assumed}")
    if throughput is None:
        lines.append(
            "No time is predicted: what is missing is a throughput: --images-per-second, --tflops, "
            "or --latency with a record of nas-t2i profile --latency --format json."
        )
    else:
        lines.append(
            f"Time: {duration(throughput.training_seconds(work))} of training and "
            f"{duration(throughput.evaluation_seconds(work))} of measuring, {throughput.basis}."
        )
    lines.append(
        f"How many steps pay is not known: {training.steps} is what the recipe or --steps says."
    )
    return lines


def _data_lines(recipe: Recipe, budget: Budget) -> list[str]:
    """Say what of the recipe's data was made for another resolution."""
    old, new = recipe.budget.data, budget.data
    assert isinstance(old, PairsData) and isinstance(new, PairsData)
    if old.resolution == new.resolution or not (new.filters or new.cache):
        return []
    return [
        f"data.filters and data.cache are as the recipe has them for {old.resolution} px: look at "
        f"them for {new.resolution} px."
    ]
