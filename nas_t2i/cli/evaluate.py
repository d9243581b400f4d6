"""``nas-t2i evaluate``: metrics of images, drawn here or made elsewhere; signals of a denoiser."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from nas_t2i.cli.output.console import Console
from nas_t2i.cli.output.evaluation import progress, show
from nas_t2i.environment import cache_dir, checked_device
from nas_t2i.errors import ConfigError, StorageError, did_you_mean
from nas_t2i.files import write_json
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.shipped import find_file
from nas_t2i.yaml_files import parse_document

if TYPE_CHECKING:
    from nas_t2i.evaluation.standalone.request import Request


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
        typer.Option(
            "--metric",
            "-m",
            help="tifa, clip, fid, hps, image_reward, or another that nas-t2i plugins lists; of a "
            "trial or a model also heldout_loss, text_gain or caption_gain; repeatable.",
        ),
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
            help="Where answers, scores and errors go as they come. "
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
            help="A diffusers model's: text encoder, codec, sampler, held-out pairs; prompts, "
            "unless given.",
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
    save_images: Annotated[
        Path | None, typer.Option(help="Where drawn images are kept. [default: in the cache]")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(hidden=True, help="The older name of --save-images.")
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
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="METRIC.KEY=VALUE", help="A setting of a metric, in YAML; repeatable."
        ),
    ] = None,
) -> None:
    """Score images by TIFA, CLIP score, FID, HPSv2 or ImageReward.

    Images made elsewhere are scored as they are; a trial or a diffusers model draws the prompts
    first. Held-out loss, text gain and caption gain are measured on the held-out pairs of its
    budget; no image is drawn for them. Stopped and started again, nothing is drawn, asked, scored
    or measured twice. The exit status is 1 where a metric found no image that can be scored.

    \b
    Examples:
      nas-t2i evaluate --images map.json --questions questions.json -m tifa \\
        --vqa recorded:result.json --format reference -o out.json
      nas-t2i evaluate images/ --prompts prompts.json -m clip --clip-model ViT-H-14 \\
        --clip-checkpoint laion2b_s32b_b79k -o out.json
      nas-t2i evaluate results/sdxl-embedded/trials/unet-6389762c4fbd-s0 -m tifa -m text_gain
    """
    if layout is Layout.REFERENCE and ((metric or []) != ["tifa"] or output is None):
        raise ConfigError(
            "--format", "got reference", expected="it with --metric tifa alone, and --output"
        )
    if save_images is not None and pictures is not None:
        raise ConfigError(
            "--pictures", f"got it with --save-images {save_images}", expected="one of the two"
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
    options: dict[str, dict[str, Any]] = {
        "clip": {
            "checkpoint": clip_checkpoint,
            "model": clip_model,
            "prefix": clip_prefix,
            "scale": clip_scale,
            "clamp": clip_clamp,
        },
        "hps": {"checkpoint": hps_checkpoint, "version": hps_version, "model": hps_model},
        "image_reward": {
            "checkpoint": image_reward_checkpoint,
            "tokenizer": image_reward_tokenizer,
        },
        "fid": {
            "reference": "" if reference is None else str(reference),
            "inception": inception,
            "side": fid_side,
        },
    }
    metrics = tuple(name.replace("-", "_") for name in metric or [])
    from nas_t2i.evaluation.standalone.request import Request, TifaOptions
    from nas_t2i.protocol.budget import load_budget

    request = Request(
        metrics=metrics,
        source=source,
        images=images,
        prompts=prompts,
        tifa=TifaOptions(**tifa),
        settings=_settings(metrics, options, set_),
        save_reference=save_reference,
        budget=load_budget(find_file(budget, "budgets")) if budget else None,
        step=step,
        seed=seed,
        blank_counts=blank_counts,
        size=_size(size),
        save_images=save_images or pictures,
        batch=batch,
    )
    _run(request, output, layout, log or _default_log(output), checked_device(device))


def _run(request: Request, output: Path | None, layout: Layout, log: Path, device: str) -> None:
    from nas_t2i.evaluation.standalone.evaluate import evaluate, result_data
    from nas_t2i.evaluation.standalone.request import make_plan
    from nas_t2i.evaluation.tifa.files import write_reference

    console = Console(stderr=True, highlight=False)
    cache = cache_dir()
    plan = make_plan(request, cache)
    try:
        with progress(console) as report:
            found = evaluate(plan, log, cache, device, report)
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on from here")
        raise
    if output is not None and layout is Layout.REFERENCE:
        write_reference(output, found.details)
    elif output is not None:
        write_json(output, result_data(found, plan))
    show(found, output)
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


# What an option of a metric is called, where it is not --METRIC-KEY.
_OPTIONS = {("fid", "reference"): "--reference", ("fid", "inception"): "--inception"}


def _settings(
    metrics: tuple[str, ...], options: dict[str, dict[str, Any]], given: list[str] | None
) -> dict[str, Any]:
    """Return the settings of metrics: of options of their own, and of ``--set``."""
    from nas_t2i import plugins
    from nas_t2i.evaluation.standalone.request import metric_names

    by_key = _by_key(metrics, given)
    found = {}
    for name in dict.fromkeys([*options, *metrics]):
        if name == "tifa" or (name not in metric_names() and not plugins.was_used("metrics", name)):
            continue
        model = plugins.find("metrics", name).cls
        own = {
            key: value
            for key, value in options.get(name, {}).items()
            if value not in ("", model.model_fields[key].default)
        }
        if own and name not in metrics:
            raise ConfigError(
                "--metric", f"got options of {name}", expected=f"--metric {name} with them"
            )
        if name in metrics:
            found[name] = _validated(name, model, options, {**own, **by_key.get(name, {})})
    return found


def _by_key(metrics: tuple[str, ...], given: list[str] | None) -> dict[str, dict[str, Any]]:
    """Return what ``--set NAME.KEY=VALUE`` gives, by name and key; values are YAML."""
    values: dict[str, dict[str, Any]] = {}
    for text in given or []:
        key_path, equals, value = text.partition("=")
        name, dot, key = key_path.partition(".")
        if not (equals and dot and key) or name not in metrics or name in ("tifa", *SIGNALS):
            raise ConfigError(
                "--set",
                f"got {text!r}",
                expected="METRIC.KEY=VALUE of a --metric METRIC that has settings",
            )
        values.setdefault(name, {})[key] = parse_document(
            f"value: {value}", f"--set {key_path}"
        ).data["value"]
    return values


def _validated(
    name: str, model: Any, options: dict[str, dict[str, Any]], values: dict[str, Any]
) -> Any:
    def option(key: str) -> str:
        if key not in options.get(name, {}):
            return f"--set {name}.{key}"
        return _OPTIONS.get((name, key), f"--{name.replace('_', '-')}-{key}")

    known = [key for key in model.model_fields if key not in ("metric", "at")]  # of budgets
    for key in values:
        if key not in known:
            expected, hint = f"one of {', '.join(known)}", did_you_mean(key, known)
            raise ConfigError(option(key), "no such setting", expected=expected, hint=hint)
    for key in known:
        field = model.model_fields[key]
        if field.is_required() and key not in values:
            missing = f"missing, and {name} needs it"
            raise ConfigError(option(key), missing, expected=field.description or "it")
    try:
        return model.model_validate({"metric": name, **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][-1])
        raise ConfigError(option(key), f"got {values.get(key)!r}: {first['msg']}") from None


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    width, x, height = text.partition("x")
    if not x or not width.isdecimal() or not height.isdecimal():
        raise ConfigError("--size", f"got {text!r}", expected="WxH in pixels, for example 512x512")
    return int(width), int(height)
