"""A benchmark's results as plain rows: CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from nas_t2i.benchmark.replay.measures import Middle
from nas_t2i.benchmark.replay.run import Benchmark, Result
from nas_t2i.untrusted.show import json_text, spreadsheet


def to_rows(found: Benchmark) -> list[dict[str, Any]]:
    """Return a row for each method and each point of its compute axis.

    ``compute`` is in trials of mean cost to the last rung, ``seconds`` are simulated, ``*_low`` and
    ``*_high`` are ends of 95 % intervals over repeats (None: one repeat).
    """
    return [row for result in found.results for row in _rows(found, result)]


def _rows(found: Benchmark, result: Result) -> list[dict[str, Any]]:
    method = result.method
    rows = []
    for point, compute in enumerate(found.compute):
        row: dict[str, Any] = {
            "sampler": method.sampler.text,
            "stopper": method.stopper.text,
            "workers": method.workers,
            "compute": float(compute),
            "seconds": float(result.seconds[point]),
        }
        for name, measured in (
            ("regret", result.regret),
            ("probability_best", result.found),
            ("hypervolume", result.hypervolume),
            ("front_hypervolume", result.front),
        ):
            row |= _with_interval(name, measured, point)
        rows.append(row)
    return rows


def _with_interval(name: str, measured: Middle, point: int) -> dict[str, float | None]:
    low, high = float(measured.low[point]), float(measured.high[point])
    return {
        name: float(measured.value[point]),
        f"{name}_low": None if math.isnan(low) else low,
        f"{name}_high": None if math.isnan(high) else high,
    }


def to_csv(found: Benchmark) -> str:
    """Return the rows as CSV."""
    rows = to_rows(found)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: spreadsheet(v) if isinstance(v, str) else v for k, v in row.items()})
    return stream.getvalue()


def to_json(found: Benchmark) -> str:
    """Return what was compared under which conditions, and the rows, as one JSON object."""
    flops, seconds = found.mean_trial
    data = {
        "table": found.table.name,
        "budget_id": found.table.manifest.budget.budget_id,
        "metric": found.table.metric,
        "objectives": list(found.conditions.objectives),
        "architectures": found.architectures,
        "best": found.best,
        "best_score": found.best_score,
        "regret_of_a_guess": found.guess,
        "trials": found.conditions.trials,
        "seeds": found.conditions.seeds,
        "recorded_seeds": found.conditions.recorded_seeds,
        "repeats": found.repeats,
        "seed": found.seed,
        "flops_of_a_trial": flops,
        "seconds_of_a_trial": seconds,
        "rows": to_rows(found),
    }
    return json_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"
