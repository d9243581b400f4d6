"""The leaderboard as cells of a page: what is shown, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import duration, number, percent, scaled, score
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.tabular import additional_metrics, parameter, parameters


@dataclass(frozen=True)
class Cell:
    """What is shown of a value, and the number it is sorted by (None: it comes last)."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Column:
    """A column; one of numbers stands right and sorts by them."""

    title: str
    help: str
    numeric: bool
    largest_first: bool
    cell: Callable[[LeaderboardRow], Cell]


@dataclass(frozen=True)
class BoardRow:
    """One row and what the page needs to know of it."""

    rank: int
    name: str
    kind: str
    """searched, control or broken."""
    drawn: bool
    """Whether figures name it before anybody chose."""
    cells: list[Cell]


@dataclass(frozen=True)
class Board:
    """The whole table."""

    columns: list[Column]
    rows: list[BoardRow]
    constant: list[tuple[str, str]]
    """Parameters with one value in all rows: a line below instead of columns."""


def board(found: RankedStudies) -> Board:
    """Return the ranking as a table."""
    constant, varying = _split_parameters(found.rows)
    columns = [*_columns(found), *(_parameter_column(name) for name in varying)]
    named = {row.rank for row in found.rows if found.role(row) == "best"}
    return Board(
        columns,
        [
            BoardRow(
                rank=row.rank,
                name=row.name,
                kind=_kind(row),
                drawn=row.rank in named,
                cells=[column.cell(row) for column in columns],
            )
            for row in found.rows
        ],
        constant,
    )


def _kind(row: LeaderboardRow) -> str:
    if row.control:
        return "control"
    return "searched" if row.probability_best is not None else "broken"


def _columns(found: RankedStudies) -> list[Column]:
    metric = display_name(found.metric)
    best_first = not found.smaller_is_better
    columns = [
        Column("#", "place in the ranking", True, False, lambda r: Cell(str(r.rank), r.rank)),
        Column(
            f"{metric} ± SE",
            "mean over prompts and seeds at the step of the row; standard error over prompts",
            True,
            best_first,
            lambda r: Cell(_with_error(r.score, r.score_stderr), r.score),
        ),
        Column(
            "expected",
            "expected score at the last rung, over seeds: what is ranked by; ~ is predicted",
            True,
            best_first,
            _expected,
        ),
        Column(
            "95 %",
            "95 % interval of the expected score, over seeds and prompts; sorted by its width",
            True,
            False,
            lambda r: Cell(_range(r.expected_low, r.expected_high), _width(r)),
        ),
        Column(
            "P(best)",
            "probability of being the best of all",
            True,
            True,
            lambda r: Cell(percent(r.probability_best), r.probability_best),
        ),
        Column(
            "ranks",
            "holds the true rank with 95 %, each row for itself",
            True,
            False,
            _ranks,
        ),
        Column(
            "params", "of the full architecture", True, False,
            lambda r: Cell(scaled(r.params), r.params),
        ),
        Column(
            "GMACs", "1e9 multiply-adds of one forward pass, full architecture", True, False,
            lambda r: Cell(number(r.gmacs), r.gmacs),
        ),
        Column(
            "attention", "share of the GMACs in transformer blocks", True, False,
            lambda r: Cell(f"{100 * r.attention_share:.0f} %", r.attention_share),
        ),
        Column(
            "compute",
            "training compute of what was trained, one seed, up to the step (FLOPs)",
            True,
            False,
            lambda r: Cell(scaled(r.training_flops, "FLOPs"), r.training_flops),
        ),
        Column(
            "time", "training time of one seed up to the step, without evaluation", True, False,
            lambda r: Cell("-" if r.seconds is None else duration(r.seconds), r.seconds),
        ),
        Column(
            "seeds", "seeds that the score is the mean of", True, True,
            lambda r: Cell(str(len(r.score_by_seed)), len(r.score_by_seed)),
        ),
        Column(
            "step", "training step the score was measured at", True, True,
            lambda r: Cell(str(r.step or r.steps_done), r.step or r.steps_done),
        ),
        Column("state", "how it ended", False, False, _state),
    ]  # fmt: skip
    columns += [_additional_column(name) for name in additional_metrics(found.rows)]
    if len(found.studies) > 1:
        columns.append(Column("study", "", False, False, lambda r: Cell(r.study)))
    return columns


def _additional_column(name: str) -> Column:
    def cell(row: LeaderboardRow) -> Cell:
        measured = row.additional.get(name)
        if measured is None:
            return Cell("-")
        return Cell(_with_error(measured.value, measured.stderr), measured.value)

    return Column(
        f"{display_name(name)} ± SE", "nothing is ranked by it", True, name != "heldout_loss", cell
    )


def _parameter_column(name: str) -> Column:
    def cell(row: LeaderboardRow) -> Cell:
        if name not in row.arch:
            return Cell("")
        value = row.arch[name]
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        return Cell(str(parameter(value)), float(value) if numeric else None)

    return Column(name, "parameter of the architecture", False, False, cell)


def _split_parameters(
    rows: Sequence[LeaderboardRow],
) -> tuple[list[tuple[str, str]], list[str]]:
    constant, varying = [], []
    for name in parameters(rows):
        values = {str(parameter(row.arch.get(name, ""))) for row in rows}
        if len(values) == 1 and len(rows) > 1:
            constant.append((name, values.pop()))
        else:
            varying.append(name)
    return constant, varying


def _state(row: LeaderboardRow) -> Cell:
    text = row.state.value
    if row.reused:
        text += f", reused from {', '.join(dict.fromkeys(row.reused.values()))}"
    if row.beyond:
        text += f", beyond the soft {' and '.join(row.beyond)} limit"
    return Cell(text)


def _expected(row: LeaderboardRow) -> Cell:
    return Cell(("~" if row.predicted else "") + score(row.expected_score), row.expected_score)


def _ranks(row: LeaderboardRow) -> Cell:
    text = "-" if row.rank_low is None else f"{row.rank_low}-{row.rank_high}"
    return Cell(text, row.rank_low)


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return score(value) if error is None else f"{score(value)} ± {score(error)}"


def _range(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"{score(low)}-{score(high)}"


def _width(row: LeaderboardRow) -> float | None:
    if row.expected_low is None or row.expected_high is None:
        return None
    return row.expected_high - row.expected_low
