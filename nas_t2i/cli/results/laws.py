"""``nas-t2i results scaling`` and ``statements``: what records say beyond a ranking."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption, StudiesArgument
from nas_t2i.cli.results.report import chosen_folders
from nas_t2i.errors import RecordError, UserError, did_you_mean, named, number_of
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.exports import showable

if TYPE_CHECKING:
    from nas_t2i.results.figures.ranked import RankedStudies
    from nas_t2i.results.laws.faster import Faster
    from nas_t2i.results.laws.finding import Statement
    from nas_t2i.results.laws.scaling import Interval, Law

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write to this file (.json).")
]


def scaling_command(
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = "results",
    metric: Annotated[
        str, typer.Option(help="Another metric, or a signal; default: the one ranked by.")
    ] = "",
    predict: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X=VALUE",
            help="Predict the score at compute, params, gmacs, images, seen or pairs; params and "
            "gmacs also take an architecture's name (params=SDXL-TD4). May be repeated.",
        ),
    ] = None,
    faster: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="How much sooner A reaches B's last score, or --score."),
    ] = None,
    score: Annotated[float | None, typer.Option(help="The score of --faster.")] = None,
    output: OutputOption = None,
) -> None:
    """Fit power laws on the Pareto front: score against compute, size, images and pairs.

    S = a X^b, and with a floor, by a Huber loss on logarithms from many starts; intervals of 95 %
    are of a bootstrap over architectures. Needs the extra `laws`. Without names it is of the newest
    study; several share their budget, or differ in its data alone: then the law is in the
    image-noun pairs of their training sets.

    \b
    Examples:
      nas-t2i results scaling sdxl-exhaustive
      nas-t2i results scaling sdxl-exhaustive --metric heldout_loss --predict compute=2e12
      nas-t2i results scaling sdxl-exhaustive --predict params=SDXL-TD4_12
      nas-t2i results scaling sdxl-exhaustive --faster SDXL-TD2 SDXL-TD4_4
      nas-t2i results scaling half-data all-data twice-data --predict pairs=2e5
    """
    from nas_t2i.results.entries import check_metric
    from nas_t2i.results.laws.pairs import read_by_budget

    if score is not None and faster is None:
        raise UserError("--score: expected --faster A B beside it")
    _check_output(output)
    wanted = [_parsed(text) for text in predict or []]
    groups = read_by_budget(chosen_folders(studies, results_dir))
    found = groups[-1]
    if faster is not None and len(groups) > 1:
        raise UserError("--faster: got studies of several budgets; expected one budget")
    for group in groups:
        if not group.quantities:
            raise RecordError(f"{group.title}: no trial has reached a rung yet")
    metric = check_metric(metric or found.metric, found.quantities, found.title)
    values = [(kind, _value(found, kind, text)) for kind, text in wanted]
    sooner = _faster(found, faster, score)
    # Who asks what is sooner, and for no prediction, need not wait for laws.
    laws, missing = _laws(groups, metric) if sooner is None or values else ([], [])
    if not laws and sooner is None:
        raise RecordError(missing[0])
    if output is not None:
        from nas_t2i.files import write_json

        write_json(output, _plain(laws, missing, values, sooner))
        return
    console = Console(highlight=False)
    say = _printer(console)
    for law in laws:
        _print_law(law, say)
    for line in missing:
        say(f"- {line}")
    for kind, x in values:
        _print_predictions(laws, kind, x, say)
    if laws:
        say("S is the score on the Pareto front. Intervals: 95 %, bootstrap over architectures.")
    if sooner is not None:
        _print_faster(sooner, say)


def statements_command(
    studies: StudiesArgument = None,
    results_dir: ResultsDirOption = "results",
    output: OutputOption = None,
) -> None:
    """Ask the paper's questions of these records: numbers and an interval, or why they can't say.

    Width against transformer depth at equal compute; attention at low resolution only; UNet
    against transformer at equal size; smaller at an equal score: of the last study named, or the
    newest. Latent codec, captions and data: of studies whose budgets differ in that alone.

    \b
    Examples:
      nas-t2i results statements sdxl-exhaustive
      nas-t2i results statements comparison-embedded -o statements.json
      nas-t2i results statements half-the-data all-the-data
    """
    from nas_t2i.results.laws.pairs import read_by_budget
    from nas_t2i.results.laws.statements import statements

    _check_output(output)
    *others, found = read_by_budget(chosen_folders(studies, results_dir))
    made = statements(found, others)
    if output is not None:
        from nas_t2i.files import write_json

        write_json(output, [asdict(statement) for statement in made])
        return
    say = _printer(Console(highlight=False))
    for statement in made:
        _print_statement(statement, say)
    if note := found.studies[-1].record.note:
        say(f"All of it is of what was trained. {note}")


Say = Callable[[str], None]


def _printer(console: Console) -> Say:
    return lambda text: console.print(Text(showable(text, console)), soft_wrap=True)


def _check_output(output: Path | None) -> None:
    if output is not None and output.suffix != ".json":
        raise UserError(f"-o {output}: got the ending {output.suffix!r}; expected .json")


def _parsed(text: str) -> tuple[str, str]:
    kinds = _titles()
    kind, equals, value = text.partition("=")
    if not equals or not value or kind not in kinds:
        hint = did_you_mean(kind, kinds)
        text = f"--predict: got {text!r}; expected one of {', '.join(kinds)}, = and a value"
        raise UserError(f"{text}; {hint}" if hint else text)
    return kind, value


def _value(found: RankedStudies, kind: str, text: str) -> float:
    """Return a positive number as written, or the size of the architecture of that name."""
    rows = {row.name: row for row in found.rows}
    if text in rows and kind in ("params", "gmacs"):
        return float(getattr(rows[text], kind))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and number > 0:
        return number
    if kind in ("params", "gmacs"):
        return _size_of(kind, text)
    raise UserError(f"--predict: {kind}: got {text!r}; expected a positive number")


def _size_of(kind: str, name: str) -> float:
    from nas_t2i.arch.profile import profile
    from nas_t2i.arch.resolve import resolve_arch

    return float(getattr(profile(resolve_arch(name).arch, name=name), kind))


def _titles() -> dict[str, str]:
    """Return what laws can be in, by name."""
    from nas_t2i.results.laws.pairs import PAIRS, TITLE
    from nas_t2i.results.laws.scaling import QUANTITIES

    return {name: quantity.title for name, quantity in QUANTITIES.items()} | {PAIRS: TITLE}


def _laws(groups: list[RankedStudies], metric: str) -> tuple[list[list[Law]], list[str]]:
    """Return for each quantity the forms of its law that the records allow, and why no others.

    Of several budgets there is a law in the size of their training sets alone.
    """
    from nas_t2i.results.laws.pairs import pairs_law
    from nas_t2i.results.laws.scaling import QUANTITIES, scaling

    kinds: list[Callable[..., Law]] = [partial(pairs_law, groups, metric)]
    if len(groups) == 1:
        kinds = [partial(scaling, groups[0], quantity, metric) for quantity in QUANTITIES] + kinds
    laws, missing = [], []
    for fit in kinds:
        forms: list[Law] = []
        for floor in (False, True):
            try:
                forms.append(fit(floor=floor))
            except RecordError as error:
                missing.append(f"{error}{' (with a floor)' if floor and forms else ''}")
                break  # what is too little for two numbers is too little for three
        if forms:
            laws.append(forms)
    return laws, missing


def _faster(
    found: RankedStudies, names: tuple[str, str] | None, score: float | None
) -> Faster | None:
    from nas_t2i.results.laws.faster import faster

    return None if names is None else faster(found, *names, score)


def _print_law(forms: list[Law], say: Say) -> None:
    plain = forms[0]
    low, high = plain.range
    say(
        f"{display_name(plain.metric)} against {_titles()[plain.quantity]}, "
        f"{low:.3g} to {high:.3g}: {plain.points} points on the front of "
        f"{number_of(plain.architectures, 'architecture')}"
    )
    for law in forms:
        shape = "S = f + a X^b" if law.with_floor else "S = a X^b    "
        floor = f", f = {_shown(law.floor)}" if law.with_floor else ""
        say(
            f"  {shape}  b = {_shown(law.b)}{floor}, ln a = {law.fitted.log_a:.3f}; residuals: "
            f"median {100 * law.residual:.1f} %, worst {100 * law.worst_residual:.1f} %"
        )


def _print_predictions(laws: list[list[Law]], kind: str, x: float, say: Say) -> None:
    forms = next((forms for forms in laws if forms[0].quantity == kind), None)
    if forms is None:
        say(f"{kind} = {x:.4g}: no law in {kind}, so no prediction")
        return
    for law in forms:
        name = "with a floor" if law.with_floor else "plain law"
        say(f"{kind} = {x:.4g}: {display_name(law.metric)} {_shown(law.predict(x))} ({name})")
    if forms[0].metric == "tifa" and any(law.predict(x).high > 1 for law in forms):
        say("  Warning: no TIFA is more than 1; a power law does not know that.")
    if forms[0].is_outside(x):
        low, high = forms[0].range
        say(
            f"  Warning: {x:.4g} is outside of {low:.3g} to {high:.3g}, where the law was fitted: "
            "how far it holds there, these records don't say."
        )


def _print_faster(sooner: Faster, say: Say) -> None:
    parts = [
        f"{'at least ' if s.at_least else ''}{s.ratio:.2f}x less {s.cost} "
        f"({s.low:.2f} to {s.high:.2f})"
        for s in sooner.speedups
    ]
    say(
        f"{sooner.first} reaches {sooner.score:.3f} in {', '.join(parts)} than {sooner.second}. "
        "Intervals: 95 %, over prompts; seed noise is not in them."
    )
    if sooner.never > 0.02:
        say(
            f"  Warning: on {100 * sooner.never:.0f} % of the resampled prompts one of the two "
            "does not reach it; these are left out."
        )


def _print_statement(statement: Statement, say: Say) -> None:
    say(statement.question)
    say(f"  {statement.answer}")
    if statement.difference is not None:
        d = statement.difference
        say(f"  {d.what}: {d.value:+.3f} (95 % {d.low:+.3f} to {d.high:+.3f}), {d.basis}")
    if statement.records:
        say(f"  rests on {named(statement.records)}")
    say(f"  the paper: {statement.paper}")


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _plain(
    laws: list[list[Law]],
    missing: list[str],
    values: list[tuple[str, float]],
    sooner: Faster | None,
) -> dict[str, Any]:
    """Return all of it as JSON; the laws of the bootstrap are left out."""
    by_kind = {forms[0].quantity: forms for forms in laws}
    return {
        "laws": [_plain_law(law) for forms in laws for law in forms],
        "not_fitted": missing,
        "predictions": [
            {
                "quantity": kind,
                "x": x,
                "with_floor": law.with_floor,
                "outside": law.is_outside(x),
                **asdict(law.predict(x)),
            }
            for kind, x in values
            for law in by_kind.get(kind, ())
        ],
        "faster": None if sooner is None else asdict(sooner),
    }


def _plain_law(law: Law) -> dict[str, Any]:
    data = {name: value for name, value in vars(law).items() if name not in ("drawn", "fitted")}
    data |= {name: asdict(data[name]) for name in ("b", "floor")}
    return data | {"log_a": law.fitted.log_a, "range": list(law.range)}
