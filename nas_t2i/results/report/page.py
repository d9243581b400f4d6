"""The report of studies as one HTML page: no request leaves it, and no script but its own runs.

Text comes through Jinja's autoescaping, and without control characters. The page's Content Security
Policy names its scripts by their hashes and forbids everything from elsewhere: what a record could
smuggle in would neither run nor load.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from nas_t2i.files import write_atomically
from nas_t2i.results.figures.chart import Chart
from nas_t2i.results.figures.curves import curve
from nas_t2i.results.figures.element_types import element_types
from nas_t2i.results.figures.hypervolume import hypervolume_course
from nas_t2i.results.figures.importance import (
    effects_chart,
    importance_chart,
    what_matters,
)
from nas_t2i.results.figures.ranked import RankedStudies, read_ranked
from nas_t2i.results.figures.rung_ranks import RungRanking, rung_rank_chart, rung_rankings
from nas_t2i.results.figures.tradeoff import tradeoff
from nas_t2i.results.figures.wording import percent, score
from nas_t2i.results.fronts.objectives import sought_alike
from nas_t2i.results.leaderboard import COSTS
from nas_t2i.results.metrics import display_name
from nas_t2i.results.report import (
    answer,
    board,
    expense,
    held_fixed,
    origin,
    pictures,
    reported,
    sought,
)
from nas_t2i.results.report.payload import chart_json
from nas_t2i.untrusted.show import one_line

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Section:
    """Figures under one heading; of several that share a place one is shown at a time."""

    key: str
    title: str
    link: str
    """What the list of sections calls it."""
    charts: list[Chart]
    choose: bool = False


def write_report(folders: Iterable[Path], file: Path) -> None:
    """Write the report of studies in one ranking.

    Raises:
        RecordError: a study can't be read.
        IncomparableError: studies that can't stand in one ranking.
        StorageError: the file can't be written.
    """
    write_atomically(file, report(read_ranked(folders)))


def report(found: RankedStudies) -> str:
    """Return the page."""
    rankings = rung_rankings(found)
    sections, last = _sections(found, rankings), found.studies[-1]
    style, script = _asset("report.css"), _asset("report.js")
    plotly = _asset("plotly-basic.min.js") if any(s.charts for s in sections) else ""
    scripts = [text for text in (plotly, script) if text]
    template = _environment().get_template("report.html.j2")
    return template.render(
        policy=_policy(scripts),
        style=Markup(style),  # noqa: S704 - the package's own file
        scripts=[Markup(text) for text in scripts],  # noqa: S704
        title=found.title,
        metric=display_name(found.metric),
        notices=_notices(found),
        answer=answer.answer(found),
        studies=[study.record for study in found.studies],
        searched=held_fixed.searched,
        held=held_fixed.held_fixed(last.record, last.seeds_per_arch),
        front=sought.sought_front(found),
        board=board.board(found),
        sections=sections,
        chart_json=lambda chart: Markup(chart_json(chart)),  # noqa: S704 - escaped there
        rankings=rankings,
        pictures=pictures.pictures(found),
        reported=reported.beside(found),
        by_state=expense.by_state(found.trials),
        ended=expense.ended_early(found.trials),
        broken=[row for row in found.rows if row.reason],
        provenance=[origin.provenance(study) for study in found.studies],
        commands=[origin.command(study.record, study.seeds_per_arch) for study in found.studies],
        files=[term for study in found.studies for term in origin.files(study.record)],
        made_by=origin.made_by(found),
        display_name=display_name,
        score=score,
        percent=percent,
    )


def _sections(found: RankedStudies, rankings: list[RungRanking]) -> list[Section]:
    """Return the figures that the records allow, in the order of the page."""
    fitted = what_matters(found)
    matters = [importance_chart(found, fitted), effects_chart(found, fitted)] if fitted else []
    sections = [
        Section(
            "cost",
            "Score against cost",
            "Cost",
            _known(
                [
                    *(tradeoff(found, cost) for cost in COSTS),
                    tradeoff(found, "latency_s"),
                    hypervolume_course(found),
                ]
            ),
        ),
        Section(
            "curves",
            "Learning curves",
            "Curves",
            _known(curve(found, q) for q in found.quantities),
            True,
        ),
        Section(
            "rungs",
            "How early could one have known?",
            "Rungs",
            _known([rung_rank_chart(found, rankings)]),
        ),
        Section("types", "By element type", "Types", _known([element_types(found)])),
        Section("matters", "What matters", "What matters", matters),
    ]
    return [section for section in sections if section.charts]


def _known(charts: Iterable[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _notices(found: RankedStudies) -> list[str]:
    """Say what a reader must know before the first number."""
    notices = []
    for study in found.studies:
        name = study.record.study
        if study.running:
            notices.append(f"Study {name} is being searched: this is what is on record so far.")
        notices += [
            f"{tail} (an interrupted write); all before it is shown." for tail in study.torn
        ]
        if not study.trials:
            notices.append(f"Study {name} has no trial on record yet.")
    if (objectives := sought_alike(found.studies)) and found.sought is None:
        notices.append(
            f"There is no front of {', '.join(objectives)}: what was measured doesn't compare, "
            "such as latencies of two machines."
        )
    return notices


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(f"'sha256-{_hash(text)}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: object) -> object:
    """Take control characters out of all text that the template shows."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    place = resources.files("nas_t2i.results.report").joinpath("assets", name)
    # As bytes first: a hash is of the text as it stands, and universal newlines would change it.
    return place.read_bytes().decode("utf-8")
