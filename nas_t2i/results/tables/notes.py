"""The words around a table of a ranking: its heading, and what a reader must know to read it."""

from __future__ import annotations

from collections.abc import Sequence

from nas_t2i.errors import named, number_of
from nas_t2i.records import StudyRecord, TrialState
from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.results.metrics import display_name
from nas_t2i.results.tables.tabular import additional_metrics


def headings(rows: Sequence[LeaderboardRow], title: str) -> list[str]:
    """Return the title with the chance level beside it: where there is one, scores need it."""
    names = ", ".join(dict.fromkeys(row.study for row in rows))
    chances = sorted({row.chance for row in rows if row.chance is not None})
    text = title or (f"Study {names}" if names else "No trials yet")
    if chances:
        levels = ", ".join(f"{chance:.3f}" for chance in chances)
        text += f" (chance level of {metric_of(rows)}: {levels})"
    return [text]


def notes_of(rows: Sequence[LeaderboardRow], study: StudyRecord | None) -> list[str]:
    """Return what a reader must know to read the table right, one note a line."""
    if not rows:
        return []
    unit, _ = flops_unit(rows)
    proxied = any(row.trained_params != row.params for row in rows)
    trained = "smaller proxy that was trained" if proxied else "same architecture"
    note = study.note if study else ""
    notes = [
        note
        or f"params, GMACs and attn are of the full architecture, {unit} and s of the {trained}.",
        f"attn: attention's share of the GMACs. {unit}, s: training compute and seconds up to the "
        "step, one seed.",
    ]
    notes.append(
        f"expected: {metric_of(rows)} at the last rung, over seeds, with its 95 % interval; ranked "
        f"by it; ~ predicted from earlier rungs, none measured there. {_seed_noise_text(rows)}"
    )
    notes.append(
        "P(best), ranks: probability of being the best, and the interval that holds a row's true "
        "rank with 95 %, each row for itself: not all at once. --export has the pairs that tie."
    )
    notes += _additional_notes(rows)
    budgets = ", ".join(dict.fromkeys(row.budget_id for row in rows))
    stopping = f"; early stopping: {study.stop_rule}" if study and study.stop_rule else ""
    notes.append(f"budget {budgets}; {_seeds_text(rows)}{stopping}")
    if reused := [row for row in rows if row.reused]:
        origins = named(study for row in reused for study in row.reused.values())
        trials = number_of(sum(len(row.reused) for row in reused), "trial")
        notes.append(
            f"* reused: {trials} trained in {origins}, not here; compute and s are theirs."
        )
    notes += [
        f"#{r.rank} {r.name}: beyond the soft {' and '.join(r.beyond)} limit"
        for r in rows
        if r.beyond
    ]
    notes += [f"#{row.rank} {row.name}: {_shortened(row.reason)}" for row in rows if _is_shown(row)]
    return notes


def _additional_notes(rows: Sequence[LeaderboardRow]) -> list[str]:
    metrics = additional_metrics(rows)
    shown = [display_name(metric) for metric in metrics if measured_alike(rows, metric)]
    notes = []
    if shown:
        notes.append(
            f"not ranked by: {', '.join(shown)}; measured at each row's step, in columns where "
            "there is room and in every export."
        )
    if counts := {row.additional["fid"].n for row in rows if "fid" in row.additional}:
        notes.append(
            "FID: smaller is better; the fewer the images, the more it is too high (here "
            f"{min(counts):,})."
        )
    for metric in metrics:
        if not measured_alike(rows, metric):
            notes.append(
                f"{display_name(metric)} is not shown: not measured alike in all rows (another "
                "model, reference or prompts); --export json has the values with their signatures."
            )
    return notes


def _is_shown(row: LeaderboardRow) -> bool:
    """Whether the reason of a row belongs under the table: that a trial was stopped is in it."""
    return bool(row.reason) and (row.state is not TrialState.STOPPED or "left out" in row.reason)


def _seed_noise_text(rows: Sequence[LeaderboardRow]) -> str:
    """Say what the seed noise in the intervals is known from."""
    repeats = sum(len(row.score_by_seed) - 1 for row in rows if row.score_by_seed)
    source = f"{repeats} repeats and a prior" if repeats else "a prior alone: nothing was repeated"
    early = any("heldout_loss" in row.additional for row in rows)
    weighed = "; few seeds are weighed against the early held-out loss" if early else ""
    return f"Seed noise is in it, from {source}{weighed}."


def _seeds_text(rows: Sequence[LeaderboardRow]) -> str:
    """Name the seeds, or how many a row has where the rows differ."""
    seeds = {tuple(row.seeds) for row in rows}
    if len(seeds) == 1:
        (only,) = seeds
        return f"seed{'s' * (len(only) > 1)} {', '.join(map(str, only))}"
    counts = sorted({len(some) for some in seeds})
    return f"{counts[0]} to {counts[-1]} seeds a row" if len(counts) > 1 else "seeds differ by row"


def _shortened(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def metric_of(rows: Sequence[LeaderboardRow]) -> str:
    """Return what the ranked metric is called."""
    return display_name(ranked_by(rows))


def ranked_by(rows: Sequence[LeaderboardRow]) -> str:
    """Return the ranked metric; "" where nothing has a score."""
    return rows[0].metric if rows else ""


def measured_alike(rows: Sequence[LeaderboardRow], metric: str) -> bool:
    """Whether an additional metric was measured alike in every row that has it."""
    signatures = {row.additional[metric].signature for row in rows if metric in row.additional}
    return len(signatures) == 1 and "" not in signatures


def flops_unit(rows: Sequence[LeaderboardRow]) -> tuple[str, float]:
    """Return the unit that training compute is shown in, and what it is in FLOPs."""
    largest = max((row.training_flops or 0.0 for row in rows), default=0.0)
    for unit, scale in (("EFLOPs", 1e18), ("PFLOPs", 1e15)):
        if largest >= scale:
            return unit, scale
    return "TFLOPs", 1e12
