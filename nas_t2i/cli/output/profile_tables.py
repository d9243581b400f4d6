"""Tables of profiles: their form, and the paper's backbones beside what is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from nas_t2i.cli.output.console import Console

if TYPE_CHECKING:
    from nas_t2i.arch.catalog import Reported
    from nas_t2i.records import Profile


def new_table(first: str, title: str | None = None) -> Table:
    """Return an empty table whose first column holds names."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column(first, justify="left", overflow="fold")
    return table


def compared_with_paper(row: Reported, p: Profile) -> dict[str, Any]:
    """Set a computed profile beside the printed row.

    The paper's attention GMACs leave out the mid block for some rows and not for others: the
    difference is that of the nearer count.
    """
    attention_off = None
    if row.attention_gmacs is not None:
        offs = (
            p.attention_gmacs_paper - row.attention_gmacs,
            p.attention_gmacs_paper_no_mid - row.attention_gmacs,
        )
        attention_off = min(offs, key=abs)
    gmacs_off = p.gmacs_paper - row.gmacs
    misfits = []
    if abs(gmacs_off) > 1:
        misfits.append("gmacs")
    if attention_off is not None and abs(attention_off) > 1:
        misfits.append("attention_gmacs")
    return {
        "name": row.name,
        "text_tokens": row.text_tokens,
        "params_b": p.params / 1e9,
        "params_b_reported": row.params_b,
        "params_difference_percent": 100 * (p.params / 1e9 / row.params_b - 1),
        "gmacs": p.gmacs_paper,
        "gmacs_reported": row.gmacs,
        "gmacs_difference": gmacs_off,
        "attention_gmacs": p.attention_gmacs_paper,
        "attention_gmacs_no_mid": p.attention_gmacs_paper_no_mid,
        "attention_gmacs_reported": row.attention_gmacs,
        "attention_difference": attention_off,
        "does_not_fit": " ".join(misfits),
    }


def paper_table(title: str, rows: Sequence[dict[str, Any]], attention: bool) -> Table:
    """Return the rows of `compared_with_paper` as a table, with or without attention's GMACs."""
    table = new_table("Backbone", title)
    if not attention:
        table.add_column("text\ntokens", justify="right")
    headers = ["params\nB", "paper\nB", "diff\n%", "GMACs", "paper\nGMACs", "diff"]
    if attention:
        headers += ["attn.\nGMACs", "no\nmid", "paper\nGMACs", "diff"]
    for header in [*headers, ""]:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        cells = [row["name"]] if attention else [row["name"], str(row["text_tokens"])]
        cells += [
            f"{row['params_b']:.3f}",
            f"{row['params_b_reported']:.2f}",
            f"{row['params_difference_percent']:+.1f}",
            f"{row['gmacs']:.1f}",
            f"{row['gmacs_reported']:.0f}",
            f"{row['gmacs_difference']:+.1f}",
        ]
        if attention:
            cells += [
                f"{row['attention_gmacs']:.1f}",
                f"{row['attention_gmacs_no_mid']:.1f}",
                f"{row['attention_gmacs_reported']:.0f}",
                f"{row['attention_difference']:+.1f}",
            ]
        misfit = bool(row["does_not_fit"])
        table.add_row(*cells, "!" if misfit else "", style="bold" if misfit else "")
    return table


def explain_misfits(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print what the columns are, and where a printed value is another one than computed."""
    console.print(
        "GMACs as fvcore counts, in 1e9 multiply-adds. attn.: whole attention modules, "
        "the paper's with the mid block for SD2 and IF-XL, without it for SDXL: diff is that of "
        "the nearer count."
    )
    for row in rows:
        for column in row["does_not_fit"].split():
            computed, printed = row[column], row[f"{column}_reported"]
            if column == "attention_gmacs":
                computed = printed + row["attention_difference"]
            text = (
                f"! {row['name']} at {row['text_tokens']} text tokens: "
                f"{column.replace('_', ' ').replace('gmacs', 'GMACs')} compute to {computed:.1f}, "
                f"the paper prints {printed:.0f}"
            )
            for other in rows:
                if other["name"] == row["name"] and not other["does_not_fit"]:
                    text += f", which is the value at {other['text_tokens']} tokens"
            console.print(text)
