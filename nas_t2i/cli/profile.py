"""``nas-t2i profile``: parameters and compute of architectures, before anything is trained."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.latency import latency_legend, latency_table
from nas_t2i.cli.output.profile_tables import (
    compared_with_paper,
    explain_misfits,
    new_table,
    paper_table,
)
from nas_t2i.environment import checked_device
from nas_t2i.errors import ArchError, UserError
from nas_t2i.untrusted.redact import redacted
from nas_t2i.untrusted.show import printable

if TYPE_CHECKING:
    from nas_t2i.arch.spec import Arch
    from nas_t2i.records import Latency, Profile

# Pixels a latent pixel, along one side, of the codecs of the study (SD and SDXL).
CODEC_FACTOR = 8

FIELDS = (
    "name",
    "arch_id",
    "family",
    "params",
    "gmacs",
    "gmacs_paper",
    "attention_gmacs",
    "attention_gmacs_paper",
    "attention_gmacs_paper_no_mid",
    "attention_share",
    "uncounted_ops",
)


class OutputFormat(StrEnum):
    """How profiles are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class NumberFormat(StrEnum):
    """What weights and activations are held in while they are timed."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class PrintedTable(StrEnum):
    """A published table that can be computed anew."""

    PAPER = "paper"


def profile_command(
    arch: Annotated[
        list[str] | None,
        typer.Option(
            "--arch",
            metavar="ARCH",
            help="A backbone of the paper (SDXL-TD4_4), a YAML or JSON file of an architecture, a "
            "diffusers config.json, or family=unet,channels=320,...; may be repeated.",
            show_default=False,
        ),
    ] = None,
    resolution: Annotated[
        int,
        typer.Option(min=CODEC_FACTOR, help="Side of the square image in pixels; latents are 1/8."),
    ] = 256,
    text_tokens: Annotated[int, typer.Option(min=1, help="Text tokens of the forward pass.")] = 77,
    output: Annotated[OutputFormat, typer.Option("--format", help="How to print.")] = (
        OutputFormat.TABLE
    ),
    by_level: Annotated[
        bool, typer.Option("--by-level", help="Show every level (down-sampling rate) too.")
    ] = False,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency", help="Time forward passes too, on this machine: median and quartiles."
        ),
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images of a pass of --latency.")] = 1,
    device: Annotated[str, typer.Option(help="Of --latency: cpu, or cuda[:N].")] = "cpu",
    dtype: Annotated[NumberFormat, typer.Option(help="Of --latency.")] = NumberFormat.FP32,
    compiled: Annotated[
        bool, typer.Option("--compile", help="--latency of the model compiled by torch.")
    ] = False,
    table: Annotated[
        PrintedTable | None,
        typer.Option(
            help="paper: Tables 1 and 2 of the paper, computed beside the printed values.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Count the parameters and multiply-adds of one denoising forward pass at batch 1.

    GMACs are 1e9 multiply-adds. "paper" counts as fvcore does out of the box, without the two
    matrix products inside attention; the full count has them. No weights are allocated.

    \b
    Examples:
      nas-t2i profile --arch SDXL-TD4_4 --arch SD2-C320
      nas-t2i profile --arch my_unet.yaml --by-level
      nas-t2i profile --arch unet/config.json --resolution 512 --format json
      nas-t2i profile --arch 'family=pixart,hidden=768,depth=20'
      nas-t2i profile --arch SDXL-TD2 --arch SD2-C320 --latency --device cuda --dtype bf16
      nas-t2i profile --table paper
    """
    if (table is None) == (not arch):
        raise UserError("got neither or both of --arch and --table; expected one of the two")
    if table is not None:
        if by_level or latency or (resolution, text_tokens) != (256, 77):
            raise UserError(
                "--table paper has its own resolution, text and rows; expected no --resolution, "
                "--text-tokens, --by-level or --latency beside it"
            )
        _print_paper(output)
        return
    if resolution % CODEC_FACTOR:
        raise UserError(
            f"--resolution: got {resolution}; expected a multiple of {CODEC_FACTOR}, the pixels of "
            "one latent pixel"
        )
    if latency and by_level:
        raise UserError("--latency: got --by-level beside it; a pass is timed as a whole")
    if not latency and (batch, device, dtype, compiled) != (1, "cpu", NumberFormat.FP32, False):
        raise UserError("--batch, --device, --dtype, --compile: expected them with --latency only")
    if latency:
        checked_device(device)
    resolved, profiles = _profiles(arch or [], resolution, text_tokens)
    if latency:
        timed = [
            _timed(arch, found, batch=batch, device=device, dtype=dtype.value, compiled=compiled)
            for arch, found in zip(resolved, profiles, strict=True)
        ]
        _print_timed(profiles, timed, output)
        return
    if output is OutputFormat.JSON:
        print(json.dumps([_as_row(p, by_level) for p in profiles], indent=2))
    elif output is OutputFormat.CSV:
        _print_csv(_level_rows(profiles) if by_level else [_as_row(p, False) for p in profiles])
    else:
        console = _console()
        console.print(_level_table(profiles) if by_level else _table(profiles))
        console.print(_legend(profiles))


def _timed(arch: Arch, found: Profile, **how: Any) -> Latency:
    from nas_t2i.training.latency import measure_latency

    print(f"nas-t2i: note: {printable(found.name)} is timed", file=sys.stderr, flush=True)
    return measure_latency(
        arch,
        latent_size=found.latent_size,
        text_tokens=found.text_tokens,
        name=found.name,
        **how,
    )


def _print_timed(
    profiles: Sequence[Profile], timed: Sequence[Latency], output: OutputFormat
) -> None:
    rows = [
        _as_row(p, False) | {"latency": t.model_dump()}
        for p, t in zip(profiles, timed, strict=True)
    ]
    if output is OutputFormat.JSON:
        print(json.dumps(rows, indent=2))
    elif output is OutputFormat.CSV:
        for row in rows:
            row |= {f"latency_{key}": value for key, value in row.pop("latency").items()}
        _print_csv(rows)
    else:
        console = _console()
        console.print(latency_table(profiles, timed))
        console.print(latency_legend(timed[0]))


def _profiles(
    texts: Sequence[str], resolution: int, text_tokens: int
) -> tuple[list[Arch], list[Profile]]:
    from nas_t2i.arch.profile import profile
    from nas_t2i.arch.resolve import resolve_arch

    # All are found before the first is counted: a typing error in the last costs no waiting.
    resolved = [resolve_arch(text) for text in texts]
    for note in (note for one in resolved for note in one.notes):
        print(redacted(printable(f"nas-t2i: note: {note}")), file=sys.stderr)
    profiles = []
    for name, arch, _ in resolved:
        try:
            profiles.append(
                profile(
                    arch,
                    latent_size=resolution // CODEC_FACTOR,
                    text_tokens=text_tokens,
                    name=name,
                )
            )
        except ArchError as error:
            raise UserError(f"--resolution {resolution} for {name}: {error}") from None
    return [one.arch for one in resolved], profiles


# ---- profiles ----------------------------------------------------------------------------------


def _as_row(profile: Profile, by_level: bool) -> dict[str, Any]:
    return profile.model_dump(include={*FIELDS, "levels"} if by_level else set(FIELDS))


def _level_rows(profiles: Iterable[Profile]) -> list[dict[str, Any]]:
    return [
        {"name": p.name, "arch_id": p.arch_id, **level.model_dump()}
        for p in profiles
        for level in p.levels
    ]


def _print_csv(rows: Sequence[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        operators = row.get("uncounted_ops")
        if operators is not None:
            row = {**row, "uncounted_ops": ";".join(f"{k}={v}" for k, v in operators.items())}
        writer.writerow(row)


def _table(profiles: Sequence[Profile]) -> Table:
    table = new_table("Architecture")
    for header in (
        "params\nB",
        "GMACs\nfull",
        "GMACs\npaper",
        "attention\nfull",
        "attention\npaper",
        "no mid\npaper",
        "share\n%",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for p in profiles:
        table.add_row(
            Text(p.name, overflow="fold"),
            _billions(p.params),
            f"{p.gmacs:,.1f}",
            f"{p.gmacs_paper:,.1f}",
            f"{p.attention_gmacs:,.1f}",
            f"{p.attention_gmacs_paper:,.1f}",
            f"{p.attention_gmacs_paper_no_mid:,.1f}",
            f"{100 * p.attention_share:.1f}",
        )
    return table


def _level_table(profiles: Sequence[Profile]) -> Table:
    table = new_table("Architecture")
    table.add_column("level")
    for header in ("params\nM", "params\n%", "GMACs\nfull", "GMACs\n%", "attention\nGMACs, full"):
        table.add_column(header, justify="right", no_wrap=True)
    for p in profiles:
        for place, level in enumerate(p.levels):
            table.add_row(
                Text(p.name if place == 0 else "", overflow="fold"),
                level.level,
                f"{level.params / 1e6:,.2f}",
                f"{100 * level.params / p.params:.1f}",
                f"{level.gmacs:,.2f}",
                f"{100 * level.gmacs / p.gmacs:.1f}",
                f"{level.attention_gmacs:,.2f}",
            )
        table.add_row(
            "",
            "all",
            f"{p.params / 1e6:,.2f}",
            "100.0",
            f"{p.gmacs:,.2f}",
            "100.0",
            f"{p.attention_gmacs:,.2f}",
            end_section=True,
            style="bold",
        )
    return table


def _legend(profiles: Sequence[Profile]) -> str:
    side, tokens = profiles[0].latent_size, profiles[0].text_tokens
    operators = sorted({name.removeprefix("aten::") for p in profiles for name in p.uncounted_ops})
    return (
        f"One latent of {side}x{side}, {tokens} text tokens; GMACs are 1e9 multiply-adds. paper: "
        "counted as fvcore does, without the products inside attention. share: attention of all, "
        f"full count. fvcore has no count for {', '.join(operators)}."
    )


# ---- the paper's tables -------------------------------------------------------------------------


def _print_paper(output: OutputFormat) -> None:
    from nas_t2i.arch.catalog import lookup, reported
    from nas_t2i.arch.profile import profile

    compared = [
        (row, profile(lookup(row.name), text_tokens=row.text_tokens, name=row.name))
        for row in reported()
    ]
    rows = [compared_with_paper(row, p) for row, p in compared]
    if output is OutputFormat.JSON:
        print(json.dumps(rows, indent=2))
    elif output is OutputFormat.CSV:
        _print_csv(rows)
    else:
        console = _console()
        unets = [row for row in rows if row["attention_gmacs_reported"] is not None]
        others = [row for row in rows if row["attention_gmacs_reported"] is None]
        console.print(paper_table("Table 1: UNets (256 px, 77 text tokens)", unets, True))
        console.print(paper_table("Table 2: transformers (256 px)", others, False))
        explain_misfits(console, rows)


# ---- shared -----------------------------------------------------------------------------------


def _console() -> Console:
    console = Console(markup=False, highlight=False)
    # A pipe or a file has no width of its own; rich would take 80.
    return console if console.is_terminal else Console(markup=False, highlight=False, width=100)


def _billions(count: int) -> str:
    """Write a number of parameters in billions, with three figures below one hundredth."""
    return f"{count / 1e9:.3f}" if count >= 1e7 else f"{count / 1e9:.6f}"
