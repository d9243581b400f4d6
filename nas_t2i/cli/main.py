"""``nas-t2i``: the command line's entry point."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from nas_t2i.cli.benchmark import benchmark_app
from nas_t2i.cli.data import data_app
from nas_t2i.cli.evaluate import evaluate_command
from nas_t2i.cli.export import export_command
from nas_t2i.cli.plugins import plugins_command
from nas_t2i.cli.profile import profile_command
from nas_t2i.cli.results.agreement import agreement_command
from nas_t2i.cli.results.compare import compare_command
from nas_t2i.cli.results.laws import scaling_command, statements_command
from nas_t2i.cli.results.leaderboard import results_app
from nas_t2i.cli.results.power import power_command
from nas_t2i.cli.results.reliability import reliability_command
from nas_t2i.cli.results.report import plot_command, report_command, watch_command
from nas_t2i.cli.results.track import track_command
from nas_t2i.cli.scale_up import scale_up_command
from nas_t2i.cli.schema import schema_command
from nas_t2i.cli.search import search_command
from nas_t2i.cli.validate import validate_command
from nas_t2i.errors import UserError
from nas_t2i.untrusted.redact import print_traceback
from nas_t2i.version import __version__

app = typer.Typer(
    name="nas-t2i",
    help="Which denoising backbone should I train, for my parameter and compute budget?",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("search", short_help="Train short runs of a space and rank them.")(search_command)
app.command("profile", short_help="Count parameters and GMACs; train nothing.")(profile_command)
results_app.command("report", short_help="One page with all of it.")(report_command)
results_app.command("plot", short_help="A figure of the report as a file.")(plot_command)
results_app.command("watch", short_help="A search under way, on a terminal.")(watch_command)
results_app.command("track", short_help="To TensorBoard, W&B, MLflow.")(track_command)
results_app.command("scaling", short_help="Power laws, and what is sooner.")(scaling_command)
results_app.command("statements", short_help="The paper's questions.")(statements_command)
results_app.command("compare", short_help="One result against another.")(compare_command)
results_app.command("reliability", short_help="Seeds, rungs and controls.")(reliability_command)
results_app.command("agreement", short_help="Do two budgets order alike?")(agreement_command)
results_app.command("power", short_help="Seeds and prompts to tell two apart.")(power_command)
app.add_typer(results_app, name="results")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(data_app, name="data")
app.command("evaluate", short_help="Score images: TIFA, CLIP, FID, ...")(evaluate_command)
app.command("export", short_help="Write trained weights for diffusers.")(export_command)
app.command("scale-up", short_help="Write the command that trains the winner.")(scale_up_command)
app.command("validate")(validate_command)
app.command("plugins", short_help="What can be named in YAML, and its checks.")(plugins_command)
app.command("schema", short_help="Print a JSON Schema, for editors.")(schema_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nas-t2i {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the work failed, 2 bad input, 130 interrupted.

    A problem that the user can mend is one line on stderr; anything else keeps its traceback.
    """
    sys.excepthook = print_traceback
    try:
        status = app(
            args=None if arguments is None else list(arguments),
            prog_name="nas-t2i",
            standalone_mode=False,
        )
    except UserError as error:
        _fail(str(error), error.status)
    except TyperException as error:
        text = error.format_message()
        if "\n\n" in text:  # a command group without a command: its help page
            print(text, file=sys.stderr)
            sys.exit(2)
        # A wrong option is bad input like any other: one line, without the usage screen.
        _fail(str(UserError(" ".join(text.replace("Value error, ", "").split()))))
    except typer.Abort:
        sys.exit(130)
    sys.exit(status or 0)


def _fail(message: str, status: int = 2) -> NoReturn:
    print(f"nas-t2i: error: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
