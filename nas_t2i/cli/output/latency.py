"""Latencies on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.profile_tables import new_table
from nas_t2i.untrusted.show import printable

if TYPE_CHECKING:
    from nas_t2i.records import Latency, Profile


def latency_table(profiles: Sequence[Profile], timed: Sequence[Latency]) -> Table:
    """Return one row an architecture: size, compute, and the time of a pass."""
    table = new_table("Architecture")
    headers = ("params\nB", "GMACs\nfull", "median\nms", "quartiles\nms", "passes", "TFLOP/s")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for p, t in zip(profiles, timed, strict=True):
        table.add_row(
            Text(printable(p.name), overflow="fold"),
            f"{p.params / 1e9:.3f}",
            f"{p.gmacs:,.1f}",
            _milliseconds(t.median_s),
            f"{_milliseconds(t.first_quartile_s)}-{_milliseconds(t.third_quartile_s)}",
            str(t.repeats),
            f"{2 * p.gmacs * t.batch / t.median_s / 1e3:.3g}",
        )
    return table


def latency_legend(timed: Latency) -> str:
    """Return what the latencies hold for."""
    compiled = ", compiled" if timed.compiled else ""
    threads = f", {timed.threads} thread(s)" if timed.threads else ""
    return (
        f"One forward pass without gradients of {timed.batch} latent(s) of {timed.latent_size}x"
        f"{timed.latent_size}, {timed.text_tokens} text tokens, {timed.dtype}{compiled}, on "
        f"{timed.hardware}{threads}; torch {timed.torch}. TFLOP/s: two floating-point operations "
        "a multiply-add. Latencies of other hardware, versions or numbers can't be compared."
    )


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g}" if seconds < 1 else f"{1e3 * seconds:,.0f}"
