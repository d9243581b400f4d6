"""A ranking as plain rows and columns: JSON, CSV, records for a data frame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from nas_t2i.results.leaderboard import LeaderboardRow
from nas_t2i.untrusted.show import json_text, spreadsheet


def to_json(rows: Sequence[LeaderboardRow]) -> str:
    """Return a JSON list with one object a row, as LeaderboardRow names its fields."""
    data = [row.model_dump(mode="json", by_alias=True) for row in rows]
    return json_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def to_csv(rows: Sequence[LeaderboardRow]) -> str:
    """Return CSV: lists joined by "; ", `by_type` as "type=value", absent values empty.

    Where latencies were measured, there is a column for them. Where a front was asked for, each
    row's place on it is in the columns front_*.
    Additional metrics have columns of their own at the end: METRIC, METRIC_stderr, METRIC_n and
    METRIC_signature. After them stand the architecture's parameters, each a column; lists as in
    YAML: [1, 2, 4]. Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    records = to_records(rows)
    writer.writerow([spreadsheet(title) for title in _titles(rows)])
    lists = parameters(rows)
    for record in records:
        cells = [parameter(v) if name in lists else v for name, v in record.items()]
        writer.writerow([_csv_cell(value) for value in cells])
    return stream.getvalue()


def to_records(rows: Sequence[LeaderboardRow]) -> list[dict[str, Any]]:
    """Return the rows flat, with the columns of `to_csv` in their order; values as they are."""
    titles = _titles(rows)
    records = []
    for row in rows:
        values = row.model_dump(mode="json")
        additional, arch = values.pop("additional"), values.pop("arch")
        values.pop("front", None)
        values |= _front_cells(row)
        for metric, found in additional.items():
            values[metric] = found["value"]
            values |= {f"{metric}_{key}": found[key] for key in ("stderr", "n", "signature")}
        records.append({title: (values | arch).get(title) for title in titles})
    return records


def _titles(rows: Sequence[LeaderboardRow]) -> list[str]:
    apart = ("additional", "front", "latency_s", "arch")
    titles = [name for name in LeaderboardRow.model_fields if name not in apart]
    if any(row.latency_s is not None for row in rows):
        titles.append("latency_s")
    titles += next((list(_front_cells(row)) for row in rows if row.front is not None), [])
    for metric in additional_metrics(rows):
        titles += [metric, f"{metric}_stderr", f"{metric}_n", f"{metric}_signature"]
    return titles + parameters(rows)


def _front_cells(row: LeaderboardRow) -> dict[str, Any]:
    """Return a row's place on the front, flat: front_gmacs, front_tifa, front_tifa_low, ..."""
    if row.front is None:
        return {}
    cells = row.front.model_dump(mode="json")
    scores, costs, reference = (cells.pop(name) for name in ("scores", "costs", "reference"))
    for metric, score in scores.items():
        cells[metric] = score["expected"]
        cells |= {f"{metric}_{end}": score[end] for end in ("low", "high")}
    cells |= costs | {f"reference_{name}": value for name, value in reference.items()}
    return {f"front_{name}": value for name, value in cells.items()}


def parameters(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return the parameters that some row's architecture has, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.arch))


def parameter(value: object) -> object:
    """Return a parameter as a cell of a table: lists as in YAML."""
    return json.dumps(value) if isinstance(value, (list, bool)) else value


def additional_metrics(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return the metrics on record beside the ranked one, in order of first appearance."""
    return list(dict.fromkeys(metric for row in rows for metric in row.additional))


def _csv_cell(value: object) -> object:
    if isinstance(value, dict):
        value = [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, list):
        joined = "; ".join(str(item) for item in value)
        if all(isinstance(item, (int, float)) for item in value):
            return joined  # scores may begin with a minus, which makes them no formula
        value = joined
    return spreadsheet(value) if isinstance(value, str) else value
