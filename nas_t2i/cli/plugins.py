"""``nas-t2i plugins``: what can be named in YAML, where it is from, and its checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nas_t2i import plugins
from nas_t2i.cli.output.console import Console
from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.results.tables.exports import showable
from nas_t2i.yaml_files import parse_document


def plugins_command(
    check: Annotated[
        str, typer.Option(metavar="NAME", help="Run the contract of one; module:Class of a file.")
    ] = "",
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(plugins.KINDS)}.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="With --check: a setting, in YAML. [default: the plug-in's own example]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List families, sources, encoders, codecs, VQA models, metrics, stopping rules and trackers.

    Each is named in a search space or a budget; those that do not come with nas-t2i are shown with
    their distribution. --check runs what every plug-in of its kind must keep to; the exit status is
    1 where one check failed.

    \b
    Examples:
      nas-t2i plugins
      nas-t2i plugins --kind metrics --json
      nas-t2i plugins --check unet
      nas-t2i plugins --check autoencoder_kl --set model=vae/ --set posterior=mean
      nas-t2i plugins --check sharpness:Sharpness --kind metrics
    """
    if kind and kind not in plugins.KINDS:
        raise ConfigError(
            "--kind",
            f"got {kind!r}",
            expected=f"one of {', '.join(plugins.KINDS)}",
            hint=did_you_mean(kind, plugins.KINDS),
        )
    if check:
        raise typer.Exit(_check(check, kind, set_ or []))
    if set_:
        raise ConfigError("--set", f"got {set_[0]!r}", expected="it with --check")
    rows = [row for row in _rows() if not kind or row["kind"] == kind]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _rows() -> list[dict[str, str]]:
    rows = []
    for kind, name, origin, point in plugins.offered():
        problem = ""
        if point is not None:  # those that come with nas-t2i load: its tests see to that
            try:
                plugins.find(kind.name, name)
            except plugins.PluginError as error:
                problem = str(error)
        rows.append({"kind": kind.name, "name": name, "origin": origin, "problem": problem})
    return rows


def _print_table(rows: list[dict[str, str]]) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("kind", "name", "origin"):
        table.add_column(title)
    for row in rows:
        table.add_row(*(Text(showable(row[key], console)) for key in ("kind", "name", "origin")))
    console.print(table)
    for row in rows:
        if row["problem"]:
            console.print(Text(showable(f"- {row['problem']}", console), style="red"))


def _check(name: str, kind: str, given: list[str]) -> int:
    from nas_t2i.contracts import check, completed

    plugin = _named(name, kind)
    settings = completed(plugin, _settings(given))
    failed = 0
    console = Console(highlight=False)
    results = check(plugin, settings)
    if settings:
        used = ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        console.print(Text(showable(f"with {used}", console)), soft_wrap=True)
    for what, problem in results:
        failed += bool(problem)
        line = f"FAILED  {what}: {problem}" if problem else f"ok      {what}"
        console.print(Text(showable(line, console)), soft_wrap=True)
    verdict = f"{failed} checks failed" if failed else "keeps to its kind"
    console.print(
        Text(showable(f"{plugin.kind.word} {name} ({plugin.source}): {verdict}", console)),
        soft_wrap=True,
    )
    return 1 if failed else 0


def _named(name: str, kind: str) -> plugins.Plugin:
    kinds = [kind] if kind else [k for k in plugins.KINDS if name in plugins.names(k)]
    if not kinds:
        known = sorted({n for k in plugins.KINDS for n in plugins.names(k)})
        expected = "--kind with a file's module:Class" if ":" in name else "a name of the list"
        raise ConfigError(
            "--check", f"got {name!r}", expected=expected, hint=did_you_mean(name, known)
        )
    if len(kinds) > 1:
        raise ConfigError("--check", f"{name!r} is of {' and of '.join(kinds)}", expected="--kind")
    return plugins.find(kinds[0], name, Path.cwd())


def _settings(given: list[str]) -> dict[str, Any]:
    settings = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigError("--set", f"got {text!r}", expected="KEY=VALUE")
        # A mapping of one key, because that is what a YAML file holds.
        settings[key] = parse_document(f"value: {value}", f"--set {key}").data["value"]
    return settings
