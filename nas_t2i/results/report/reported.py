"""What the paper reports, as records of their own kind: shown beside measured ones, never ranked.

`results/paper/reported.json` holds `reported_records`; a test keeps the two alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.arch.catalog import lookup, reported
from nas_t2i.results.figures.ranked import RankedStudies
from nas_t2i.results.figures.wording import number, scaled

SOURCE = (
    "arXiv 2404.02883, Li et al., On the Scalability of Diffusion-based Text-to-Image Generation"
)


class ReportedRecord(BaseModel):
    """One row of the paper's Table 1 or 2, as printed. Absent values are None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["reported"] = "reported"
    source: str = SOURCE
    table: int
    name: str
    arch_id: str
    text_tokens: int = Field(description="text tokens that the row is compared at")
    params: float = Field(description="as printed, in billions there")
    gmacs: float = Field(description="1e9 multiply-adds, as fvcore counts")
    attention_gmacs: float | None
    attention_share: float | None = Field(description="0 to 1")
    does_not_fit: str = Field(description="the column that can't be reproduced; empty: all can")


@dataclass(frozen=True)
class Beside:
    """A row of the ranking beside the paper's row of the same architecture, as text."""

    rank: int
    name: str
    params: str
    params_reported: str
    gmacs: str
    gmacs_reported: str
    attention_reported: str


def reported_records() -> list[ReportedRecord]:
    """Return the rows of the paper's tables of backbones."""
    return [
        ReportedRecord(
            table=1 if row.attention_gmacs is not None else 2,
            name=row.name,
            arch_id=lookup(row.name).arch_id,
            text_tokens=row.text_tokens,
            params=row.params_b * 1e9,
            gmacs=row.gmacs,
            attention_gmacs=row.attention_gmacs,
            attention_share=None if row.attention_percent is None else row.attention_percent / 100,
            does_not_fit=row.does_not_fit,
        )
        for row in reported()
    ]


def beside(found: RankedStudies) -> list[Beside]:
    """Return the architectures of a ranking that the paper reports, best first."""
    known = {record.arch_id: record for record in reported_records()}
    counted = {trial.arch_id: trial.profile for trial in found.trials}
    return [
        Beside(
            rank=row.rank,
            name=row.name,
            params=scaled(row.params),
            params_reported=scaled(record.params),
            # The paper counts as fvcore does, without the products inside attention.
            gmacs=number(counted[row.arch_id].gmacs_paper),
            gmacs_reported=number(record.gmacs),
            attention_reported=number(record.attention_gmacs),
        )
        for row in found.rows
        if not row.control and (record := known.get(row.arch_id))
    ]
