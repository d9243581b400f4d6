"""``nas-t2i scale-up``: from the winner of a study to the command that trains it in full."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.results.leaderboard import ResultsDirOption
from nas_t2i.errors import UserError
from nas_t2i.mirror.place import is_url
from nas_t2i.results.tables.exports import showable
from nas_t2i.untrusted.show import one_line


class Device(StrEnum):
    """What trains."""

    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """What is computed in."""

    FP32 = "fp32"
    BF16 = "bf16"


def scale_up_command(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name or folder.")],
    results_dir: ResultsDirOption = "results",
    name: Annotated[
        str, typer.Option(help="An architecture of the study. [default: the winner]")
    ] = "",
    recipe: Annotated[
        str,
        typer.Option(
            help="A budget to start from. [default: the study's own, if its data are yours, else "
            "paper_256]",
        ),
    ] = "",
    shards: Annotated[
        str | None, typer.Option(help="Your data: paths or URLs of shards, as in a budget.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="Folder of encoded pairs; 'none': encode on line.")
    ] = None,
    init_from: Annotated[str | None, typer.Option(help="Weights to go on from.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a step, all ranks.")] = None,
    resolution: Annotated[int | None, typer.Option(min=8, help="Side of an image, pixels.")] = None,
    device: Annotated[Device | None, typer.Option(help="What trains.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Processes, one a GPU.")] = None,
    hostfile: Annotated[str | None, typer.Option(help="DeepSpeed's, of several nodes.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of the arithmetic.")] = None,
    zero_stage: Annotated[
        int | None, typer.Option(min=0, max=3, help="DeepSpeed's ZeRO stage.")
    ] = None,
    images_per_second: Annotated[
        float | None, typer.Option(help="Training images/s of all devices, to predict time by.")
    ] = None,
    tflops: Annotated[
        float | None, typer.Option(help="Sustained TFLOP/s of one device, to predict time by.")
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(help="What `profile --latency --format json` printed, to predict time by."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder to write. [default: STUDY/scale-up/NAME]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
) -> None:
    """Write the budget and the command that train an architecture in full; train nothing.

    space.yaml, budget.yaml and train.sh: the full architecture, not its proxy, on real data, for as
    long as the recipe says. What is not given as an option is the recipe's; paper_256 is the
    setting of the paper, and its comments say what the paper does not state. Training compute is
    counted; time is predicted from a throughput, the score only where the study's laws reach.

    \b
    Examples:
      nas-t2i scale-up sdxl-embedded
      nas-t2i scale-up sdxl-embedded --name SDXL-TD4 --shards '/data/{000..999}.tar' --ranks 4
      nas-t2i scale-up my-study --steps 200000 --tflops 120 -o full
      sh full/train.sh --dry-run
    """
    from nas_t2i.results.scale_up.files import folder_of, write
    from nas_t2i.results.scale_up.plan import Request, choose, plan, read
    from nas_t2i.results.scale_up.recipe import Wish
    from nas_t2i.store import find_study

    given = {
        "--images-per-second": images_per_second,
        "--tflops": tflops,
        "--latency": latency,
    }
    known = [option for option, value in given.items() if value is not None]
    if len(known) > 1:
        raise UserError(f"{known[1]}: got {known[0]} beside it; expected one of the two")
    for option, value in given.items():
        if isinstance(value, float) and not 0 < value < float("inf"):
            raise UserError(f"{option}: got {value:g}; expected a positive number")
    sources = None if shards is None else [{"source": "shards", "urls": shards}]
    wishes = [
        Wish(path, option, value)
        for path, option, value in (
            (("data", "sources"), "--shards", sources),
            (("data", "resolution"), "--resolution", resolution),
            (("data", "cache"), "--cache", cache),
            (("init_from",), "--init-from", init_from),
            (("training", "steps"), "--steps", steps),
            (("training", "batch"), "--batch", batch),
            (("training", "device"), "--device", device and device.value),
            (("training", "precision"), "--precision", precision and precision.value),
            (("training", "zero_stage"), "--zero-stage", zero_stage),
            (("execution", "ranks"), "--ranks", ranks),
            (("execution", "hostfile"), "--hostfile", hostfile),
        )
        if value is not None
    ]
    if cache == "none":
        wishes = [w if w.option != "--cache" else Wish(w.path, w.option, None) for w in wishes]
    if output is None and (is_url(results_dir) or is_url(study)):
        raise UserError("--output: got none; expected a folder, as the study is at a URL")
    folder = find_study(study, results_dir)
    found = read(folder)
    chosen = choose(found, name)
    request = Request(folder, name, recipe, wishes, images_per_second, tflops, latency)
    place = output or folder_of(folder, chosen.name, chosen.row.arch_id)
    made = plan(request, found, chosen, place)
    write(made.full, place, overwrite=overwrite)
    console = Console(highlight=False)
    lines = (*made.lines, f"Written: {place}/", f"Train:   {made.full.command}")
    for line in lines:
        console.print(Text(showable(one_line(line), console)), soft_wrap=True)
