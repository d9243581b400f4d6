"""``nas-t2i evaluate``: metrics of images, drawn here or made elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nas_t2i.cli.numbers import duration
from nas_t2i.environment import cache_dir
from nas_t2i.errors import ConfigError, StorageError, did_you_mean
from nas_t2i.files import write_json
from nas_t2i.protocol.budget import ClipMetric, HpsMetric, ImageRewardMetric, load_budget
from nas_t2i.results.exports import showable
from nas_t2i.results.metrics import display_name
from nas_t2i.shipped import find_file

if TYPE_CHECKING:
    from nas_t2i.evaluation.metric_result import MetricResult
    from nas_t2i.evaluation.standalone.evaluate import Evaluation
    from nas_t2i.evaluation.standalone.request import Request

_SECONDS = 10.0  # between two lines of progress where there is no terminal


class Layout(StrEnum):
    """How a result file is laid out."""

    OURS = "ours"
    REFERENCE = "reference"


def evaluate_command(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="A folder: of images named ID.png, of a trial or one of its checkpoints, or of "
            "a diffusers model.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="tifa, clip, fid, hps or image_reward; repeatable."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Instead of SOURCE: a map {id: path} of images, JSON.")
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="Prompts, JSON; or coco:ANNOTATIONS.json:COUNT, drawn by --seed.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The result file to write, JSON.")
    ] = None,
    layout: Annotated[
        Layout, typer.Option("--format", help="Of the result file: ours, or TIFA's own.")
    ] = Layout.OURS,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Where answers and scores go as they come. "
            "[default: beside the result file, else in the cache]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda[:N].")] = "cpu",
    batch: Annotated[
        int,
        typer.Option(
            min=1,
            help="Questions of a VQA model, or images of CLIP, HPSv2 and ImageReward (32 at "
            "most), in one pass: memory, not scores.",
        ),
    ] = 32,
    blank_counts: Annotated[
        bool, typer.Option("--blank-counts", help="Score images of one colour; else left out.")
    ] = False,
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Leave out images of any other size.")
    ] = "",
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            "-b",
            help="A diffusers model's: text encoder, codec, sampler; prompts, unless given.",
        ),
    ] = "",
    step: Annotated[
        int | None, typer.Option(min=1, help="A trial's checkpoint. [default: the newest]")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of starting noise (default: the budget's) and of drawn prompts (0)."
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Where drawn images are kept. [default: in the cache]")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="TIFA: questions, JSON. [default: a model's budget's own]")
    ] = None,
    vqa: Annotated[
        str,
        typer.Option(
            help="TIFA: recorded:FILE, blip:MODEL, vilt:MODEL, git:MODEL, blip2:MODEL, shapes or "
            "learned; MODEL is a folder or a hub id. [default: a model's budget's own]"
        ),
    ] = "",
    vqa_revision: Annotated[str | None, typer.Option(help="TIFA: of a hub id.")] = None,
    vqa_dtype: Annotated[str, typer.Option(help="TIFA: fp32 or bf16.")] = "fp32",
    vqa_choices: Annotated[
        bool, typer.Option("--vqa-choices", help="TIFA, blip2: list the choices in the prompt.")
    ] = False,
    vqa_tokens: Annotated[
        int, typer.Option(min=1, help="TIFA, blip, git, blip2: longer answers are cut.")
    ] = 50,
    recorded_model: Annotated[
        str, typer.Option(help="TIFA: whose the recorded answers are, if the file doesn't say.")
    ] = "",
    mapping: Annotated[
        str,
        typer.Option(
            help="TIFA: exact, embedding, embedding:MODEL or likelihood. "
            "[default: a model's budget's own, else exact]"
        ),
    ] = "",
    likelihood: Annotated[
        str, typer.Option(help="TIFA, --mapping likelihood: sum or mean over a choice's tokens.")
    ] = "mean",
    clip_model: Annotated[str, typer.Option(help="CLIP: architecture, or a config .json.")] = "",
    clip_checkpoint: Annotated[str, typer.Option(help="CLIP: pretrained tag, or a file.")] = "",
    clip_prefix: Annotated[str, typer.Option(help="CLIP: put before each prompt.")] = "",
    clip_scale: Annotated[float, typer.Option(help="CLIP: times the cosine.")] = 1.0,
    clip_clamp: Annotated[
        bool, typer.Option("--clip-clamp", help="CLIP: a negative cosine counts as 0.")
    ] = False,
    hps_checkpoint: Annotated[str, typer.Option(help="HPSv2: weights file.")] = "",
    hps_version: Annotated[str, typer.Option(help="HPSv2: v2.0 or v2.1, of the weights.")] = "",
    hps_model: Annotated[str, typer.Option(help="HPSv2: another architecture.")] = "ViT-H-14",
    image_reward_checkpoint: Annotated[str, typer.Option(help="ImageReward: weights file.")] = "",
    image_reward_tokenizer: Annotated[
        str, typer.Option(help="ImageReward: BERT's tokenizer, a folder or a hub id.")
    ] = "google-bert/bert-base-uncased",
    reference: Annotated[
        Path | None, typer.Option(help="FID: a folder of real images, or statistics .npz.")
    ] = None,
    save_reference: Annotated[
        Path | None, typer.Option(help="FID: write the folder's statistics, .npz.")
    ] = None,
    inception: Annotated[
        str | None, typer.Option(help="FID: InceptionV3's weights file. [default: downloaded]")
    ] = None,
    fid_side: Annotated[
        int | None,
        typer.Option(min=1, help="FID: cut and resize all images to squares of this side first."),
    ] = None,
) -> None:
    """Score images by TIFA, CLIP score, FID, HPSv2 or ImageReward.

    Images made elsewhere are scored as they are; a trial or a diffusers model draws the prompts
    first. Stopped and started again, nothing is drawn, asked or scored twice. The exit status is 1
    where a metric found no image that can be scored.

    \b
    Examples:
      nas-t2i evaluate --images map.json --questions questions.json -m tifa \\
        --vqa recorded:result.json --format reference -o out.json
      nas-t2i evaluate images/ --prompts prompts.json -m clip --clip-model ViT-H-14 \\
        --clip-checkpoint laion2b_s32b_b79k -o out.json
      nas-t2i evaluate results/sdxl-embedded/trials/unet-6389762c4fbd-s0 -m tifa
    """
    if layout is Layout.REFERENCE and ((metric or []) != ["tifa"] or output is None):
        raise ConfigError(
            "--format", "got reference", expected="it with --metric tifa alone, and --output"
        )
    _check_output(output, questions, images, prompts, vqa.partition(":")[2])
    tifa = {
        "questions": questions,
        "vqa": vqa,
        "mapping": mapping,
        "revision": vqa_revision,
        "dtype": _one_of("--vqa-dtype", vqa_dtype, "fp32", "bf16"),
        "likelihood": _one_of("--likelihood", likelihood, "sum", "mean"),
        "choices_in_prompt": vqa_choices,
        "new_tokens": vqa_tokens,
        "recorded_model": recorded_model,
    }
    clip = {
        "model": clip_model,
        "checkpoint": clip_checkpoint,
        "prefix": clip_prefix,
        "scale": clip_scale,
        "clamp": clip_clamp,
    }
    hps = {"checkpoint": hps_checkpoint, "version": hps_version, "model": hps_model}
    reward = {"checkpoint": image_reward_checkpoint, "tokenizer": image_reward_tokenizer}
    from nas_t2i.evaluation.standalone.request import FidOptions, Request, TifaOptions

    request = Request(
        metrics=tuple(name.replace("-", "_") for name in metric or []),
        source=source,
        images=images,
        prompts=prompts,
        tifa=TifaOptions(**tifa),
        clip=_settings(ClipMetric, "clip", clip, "checkpoint", "model"),
        hps=_settings(HpsMetric, "hps", hps, "checkpoint", "version"),
        image_reward=_settings(ImageRewardMetric, "image_reward", reward, "checkpoint"),
        fid=FidOptions(reference, save_reference, inception, fid_side),
        budget=load_budget(find_file(budget, "budgets")) if budget else None,
        step=step,
        seed=seed,
        blank_counts=blank_counts,
        size=_size(size),
        pictures=pictures,
        batch=batch,
    )
    _run(request, output, layout, log or _default_log(output), _device(device))


def _run(request: Request, output: Path | None, layout: Layout, log: Path, device: str) -> None:
    from nas_t2i.evaluation.standalone.evaluate import evaluate, result_data
    from nas_t2i.evaluation.standalone.request import make_plan
    from nas_t2i.evaluation.tifa.files import write_reference

    told = Console(stderr=True, highlight=False)
    cache = cache_dir()
    plan = make_plan(request, cache)
    try:
        with _progress(told) as report:
            found = evaluate(plan, log, cache, device, report)
    except KeyboardInterrupt:
        told.print("interrupted: the same command goes on from here")
        raise
    if output is not None and layout is Layout.REFERENCE:
        write_reference(output, found.details)
    elif output is not None:
        write_json(output, result_data(found, plan))
    _show(found, output)
    if not found.complete:
        raise typer.Exit(1)


# ---- options -------------------------------------------------------------------------------------


def _check_output(output: Path | None, *inputs: str | Path | None) -> None:
    """Refuse now what could not, or should not, be written at the end."""
    if output is None:
        return
    if not output.absolute().parent.is_dir():
        raise StorageError(f"{output}: can't be written: no folder {output.absolute().parent}")
    if output.is_dir():
        raise StorageError(f"{output}: can't be written: a folder")
    if output.resolve() in [Path(file).resolve() for file in inputs if file]:
        raise ConfigError("--output", f"got {output}, which is read too", expected="another file")


def _default_log(output: Path | None) -> Path:
    if output is None:
        return cache_dir() / "evaluate" / "answers.jsonl"
    return output.with_suffix(".answers.jsonl")


def _one_of(option: str, value: str, *valid: str) -> Any:
    if value not in valid:
        raise ConfigError(
            option, f"got {value!r}", expected=" or ".join(valid), hint=did_you_mean(value, valid)
        )
    return value


def _settings(model: Any, name: str, values: dict[str, Any], *needed: str) -> Any:
    """Return a metric's settings, None where none of what it needs was given."""
    if all(value in ("", model.model_fields[key].default) for key, value in values.items()):
        return None
    option = f"--{name.replace('_', '-')}"
    for key in needed:
        if not values[key]:
            raise ConfigError(f"{option}-{key}", "missing", expected=f"it with {option}-*")
    try:
        return model.model_validate({"metric": name, **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][-1])
        raise ConfigError(f"{option}-{key}", f"got {values[key]!r}: {first['msg']}") from None


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    width, x, height = text.partition("x")
    if not x or not width.isdecimal() or not height.isdecimal():
        raise ConfigError("--size", f"got {text!r}", expected="WxH in pixels, for example 512x512")
    return int(width), int(height)


def _device(name: str) -> str:
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError("--device", f"got {name!r}", expected="cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        raise ConfigError(
            "--device", f"got {name!r}", expected=f"one of {', '.join(['cpu', *found])}"
        )
    return name


# ---- progress ------------------------------------------------------------------------------------


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    """Yield what to report progress to: a bar a stage on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done)

        yield report


class _Lines:
    """Progress as lines: the first and the last of a stage, and one every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, tuple[float, int]] = {}
        self._last = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        began, at = self._began.setdefault(what, (now, done))
        if done < of and now - self._last < _SECONDS:
            return
        self._last = now
        left = (now - began) / (done - at) * (of - done) if at < done < of else 0.0
        line = f"{what} {done}/{of}" + (f", ETA {duration(left)}" if left else "")
        self._console.print(line, soft_wrap=True)


# ---- the table -----------------------------------------------------------------------------------


def _show(found: Evaluation, output: Path | None) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("metric", "value ± SE", "chance", "n", "missing", "better"):
        right = title not in ("metric", "missing", "better")
        table.add_column(showable(title, console), justify="right" if right else "left")
    for result in found.results:
        for row in _rows(result):
            table.add_row(*(Text(showable(cell, console)) for cell in row))
    console.print(table)
    notes = found.notes + [note for result in found.results for note in result.notes]
    if "folder" in found.images:
        notes.insert(0, f"drawn images: {found.images['count']}, in {found.images['folder']}")
    if output is not None:
        notes.append(f"written: {output}")
    for note in dict.fromkeys(notes):
        console.print(Text(showable(f"- {note}", console)), soft_wrap=True)


def _rows(result: MetricResult) -> Iterator[list[str]]:
    missing = ", ".join(f"{count} {why}" for why, count in result.missing_by_reason.items()) or "0"
    score = result.score
    if score is None:
        yield [display_name(result.metric), "none", "", "0", missing, result.better]
        return
    chance = "" if score.chance is None else f"{score.chance:.3f}"
    error = "unknown" if math.isnan(score.stderr) else f"{score.stderr:.4f}"
    value = f"{score.value:.4f} ± {error}"
    yield [display_name(score.metric), value, chance, str(score.n), missing, result.better]
    for kind, accuracy in score.by_type.items():
        yield [f"  {kind}", f"{accuracy:.4f}", "", "", "", ""]
