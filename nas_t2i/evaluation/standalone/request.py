"""What is to be evaluated: the words of a request, checked and read before any model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nas_t2i import plugins
from nas_t2i.errors import ConfigError, did_you_mean, number_of
from nas_t2i.evaluation.at_rung import ranked_by
from nas_t2i.evaluation.inputs.coco import draw_prompts
from nas_t2i.evaluation.inputs.images import ImageSet, no_match
from nas_t2i.evaluation.inputs.prompts import Prompt, read_prompts
from nas_t2i.evaluation.metric import Metric
from nas_t2i.evaluation.metrics.common.frechet import FeatureStatistics
from nas_t2i.evaluation.metrics.common.weights import weights_file
from nas_t2i.evaluation.metrics.fid import FidMetric
from nas_t2i.evaluation.metrics.tifa import TifaEvaluation, prompts_of
from nas_t2i.evaluation.sampling.checkpoint import (
    CheckpointSource,
    find_checkpoint_source,
    is_checkpoint,
)
from nas_t2i.evaluation.standalone.signals import check_signals
from nas_t2i.evaluation.tifa.files import read_questions
from nas_t2i.evaluation.tifa.mapping.registry import check_mapping
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa import check_answerable, find_vqa, forms
from nas_t2i.files import expand_path
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.training.feeds.inputs import Inputs

_COCO = "coco:"


@dataclass(frozen=True)
class TifaOptions:
    """How questions are asked and answers read."""

    questions: Path | None = None  # None: the budget's own
    vqa: str = ""  # as in `make_vqa_model`; "": the budget's own
    mapping: str = ""  # as in `make_mapping`; "": the budget's own, else exact
    revision: str | None = None
    dtype: Literal["fp32", "bf16"] = "fp32"
    likelihood: Literal["sum", "mean"] = "mean"
    choices_in_prompt: bool = False
    new_tokens: int = 50
    recorded_model: str = ""


def metric_names() -> list[str]:
    """Return the names of metrics that score images."""
    return [
        name
        for name in plugins.names("metrics")
        if name not in plugins.builtin_names("metrics") or plugins.find("metrics", name).cls.BESIDE
    ]


@dataclass(frozen=True)
class Request:
    """What somebody asked for, in their words."""

    metrics: tuple[str, ...]
    source: Path | None = None  # a folder: of images, of a trial, of a diffusers model
    images: Path | None = None  # or a map of images
    prompts: str = ""
    tifa: TifaOptions = field(default_factory=TifaOptions)
    settings: Mapping[str, Metric] = field(default_factory=dict)  # of metrics other than TIFA
    save_reference: Path | None = None  # of FID: where the statistics of its reference go
    budget: Budget | None = None
    step: int | None = None
    seed: int | None = None
    blank_counts: bool = False
    size: tuple[int, int] | None = None
    save_images: Path | None = None  # where drawn ones go
    batch: int = 32  # questions, or images, of one pass of a model; decides no score

    @property
    def signals(self) -> tuple[str, ...]:
        """Those among the metrics that are measured on a denoiser."""
        return tuple(name for name in self.metrics if name in SIGNALS)

    @property
    def of_images(self) -> tuple[str, ...]:
        """The other metrics, which score images."""
        return tuple(name for name in self.metrics if name not in SIGNALS)


@dataclass(frozen=True)
class Plan:
    """A request with its files read; every file that it names is there."""

    request: Request
    checkpoint: CheckpointSource | None  # None: the images are there
    images: ImageSet | None  # None: to be drawn, or no metric scores images
    prompts: list[Prompt]  # may be none where FID is all that is asked for
    questions: list[Question]
    vqa: str  # of the request, or the budget's own
    mapping: str
    notes: list[str]


def make_plan(request: Request, cache: Path) -> Plan:
    """Check a request, and read the files that it names.

    No model is loaded but where a trial is to draw its own held-out captions, and encodes them on
    line.

    Raises:
        UserError: something is missing, is not what it should be, or does not go together.
    """
    notes: list[str] = []
    _check_metrics(request)
    checkpoint, images = _source(request)
    _check_settings(request)
    if request.signals:
        where = request.source or request.images
        assert where is not None
        notes.append(check_signals(request.signals, where, checkpoint))
    if not request.of_images:
        _check_no_image_options(request)
        notes += () if checkpoint is None else checkpoint.notes
        return Plan(request, checkpoint, None, [], [], "", "", notes)
    questions, vqa, mapping = _questions(request, checkpoint, notes.append)
    prompts = _prompts(request, checkpoint, questions, cache, notes.append)
    _check_captions(prompts, questions)
    if checkpoint is not None:
        notes += checkpoint.notes
    of_prompts = [name for name in request.of_images if name not in ("tifa", "fid")]
    if not prompts and (checkpoint is not None or of_prompts):
        what = "drawing" if checkpoint is not None else of_prompts[0]
        raise ConfigError("--prompts", f"missing, and {what} needs captions", expected="a file")
    ids = [prompt.id for prompt in prompts] if images is None else images.ids
    if "tifa" in request.metrics:
        _check_match(ids, dict.fromkeys(question["id"] for question in questions), "caption")
    if of_prompts:
        _check_match(ids, dict.fromkeys(prompt.id for prompt in prompts), "prompt")
    return Plan(request, checkpoint, images, prompts, questions, vqa, mapping, notes)


def _check_match(images: Sequence[str], wanted: dict[str, None], what: str) -> None:
    if wanted.keys().isdisjoint(images):
        raise no_match(images, wanted, what)


def _check_metrics(request: Request) -> None:
    known = [*metric_names(), *SIGNALS]
    if not request.metrics:
        raise ConfigError("--metric", "missing", expected=f"one or more of {', '.join(known)}")
    for name in request.metrics:
        if name not in known and not plugins.was_used("metrics", name):
            raise ConfigError(
                "--metric",
                f"got {name!r}",
                expected=f"one of {', '.join(known)}",
                hint=did_you_mean(name, known),
            )
    if len(set(request.metrics)) < len(request.metrics):
        raise ConfigError("--metric", f"got {', '.join(request.metrics)}", expected="each once")
    # Of TIFA, a file of questions may be given for its captions alone.
    given = [*request.settings]
    if replace(request.tifa, questions=None) != TifaOptions():
        given.append("tifa")
    for name in given:
        if name not in request.metrics:
            raise ConfigError(
                "--metric", f"got options of {name}", expected=f"--metric {name} with them"
            )


def _check_settings(request: Request) -> None:
    for name in request.of_images:
        if name == "tifa":
            continue
        settings = request.settings.get(name)
        if isinstance(settings, FidMetric):
            _check_fid(settings, request.save_reference)
        elif settings is not None:
            settings.check()
        elif name == "fid":
            raise ConfigError(
                "--reference", "missing", expected="a folder of real images, or their statistics"
            )
        else:
            raise ConfigError(f"--metric {name}", "no settings", expected=_needed(name))


def _needed(metric: str) -> str:
    fields = plugins.find("metrics", metric).cls.model_fields
    needed = [key for key, field in fields.items() if field.is_required() and key != "metric"]
    return f"its settings ({', '.join(needed)})" if needed else "its settings"


def _check_fid(fid: FidMetric, save_reference: Path | None) -> None:
    reference = Path(fid.reference)
    if reference.is_dir():
        ImageSet.from_folder(reference)
    else:
        FeatureStatistics.load(reference)
        if save_reference is not None:
            raise ConfigError(
                "--save-reference", "got a file", expected="it with a folder as the reference"
            )
    if fid.inception is not None:
        weights_file(fid.inception, "--inception")


def _check_no_image_options(request: Request) -> None:
    given = {
        "--prompts": bool(request.prompts),
        "--questions": request.tifa.questions is not None,
        "--seed": request.seed is not None,
        "--save-images": request.save_images is not None,
        "--size": request.size is not None,
        "--blank-counts": request.blank_counts,
    }
    for option, is_given in given.items():
        if is_given:
            raise ConfigError(
                option,
                f"got it with --metric {request.signals[0]}, for which no image is drawn",
                expected="it with a metric of images",
            )


def _source(request: Request) -> tuple[CheckpointSource | None, ImageSet | None]:
    source, images = request.source, request.images
    if (source is None) == (images is None):
        raise ConfigError(
            "SOURCE",
            "missing" if source is None else f"got {source}, and --images {images}",
            expected="a folder (of images, a trial, a diffusers model), or --images MAP.json",
        )
    drawing = {
        "--budget": request.budget is not None,
        "--step": request.step is not None,
        "--save-images": request.save_images is not None,
        "--seed": request.seed is not None and not request.prompts.startswith(_COCO),
    }
    if source is not None and source.is_dir() and (drawn := _checkpoint(request, source)):
        return drawn, None
    for option, given in drawing.items():
        if given:
            raise ConfigError(
                option, f"got it with {source or images}", expected="it with a model to draw with"
            )
    options = {"size": request.size, "blank_counts": request.blank_counts}
    if images is not None:
        return None, ImageSet.from_map(images, **options)  # type: ignore[arg-type]
    assert source is not None
    if source.is_file():
        raise ConfigError(
            str(source), "a file", expected="a folder", hint="for a map: --images MAP.json"
        )
    return None, ImageSet.from_folder(source, **options)  # type: ignore[arg-type]


def _checkpoint(request: Request, folder: Path) -> CheckpointSource | None:
    if is_checkpoint(folder) or (folder / "study.json").exists():
        found = find_checkpoint_source(folder, request.budget, request.step)
        return _reseeded(found, request.seed)
    return None


def _reseeded(source: CheckpointSource, seed: int | None) -> CheckpointSource:
    if seed is None:
        return source
    evaluation = source.budget.evaluation.model_copy(update={"seed": seed})
    budget = source.budget.model_copy(update={"evaluation": evaluation})
    return CheckpointSource(source.weights, source.arch, budget, source.origin, source.notes)


def _questions(
    request: Request, checkpoint: CheckpointSource | None, say: Callable[[str], None]
) -> tuple[list[Question], str, str]:
    """Return the questions, who answers them and how answers are read: the budget's unless said."""
    tifa, file = request.tifa, request.tifa.questions
    if file is not None and not ("tifa" in request.metrics or checkpoint or request.prompts == ""):
        raise ConfigError("--questions", f"got {file}", expected="it with --metric tifa")
    questions = [] if file is None else read_questions(file, say)
    if "tifa" not in request.metrics:
        return questions, "", ""
    budget = None if checkpoint is None else checkpoint.budget
    own = budget.evaluation if budget and isinstance(budget.evaluation, TifaEvaluation) else None
    where = str(file)
    if file is None:
        if budget is None or own is None or request.prompts:
            raise ConfigError("--questions", "missing, and tifa needs it", expected="a file")
        questions = own.asked(budget.data)
        where = f"the budget {budget.name} ({own.questions or 'embedded prompts'})"
    vqa = tifa.vqa or (own.vqa if own else "")
    mapping = tifa.mapping or (own.mapping if own else "exact")
    check_mapping(mapping)
    _check_vqa(vqa, mapping, tifa)
    check_answerable(vqa, questions)
    about = number_of(len(prompts_of(questions)), "caption")
    say(
        f"tifa: {number_of(len(questions), 'question')} about {about} of {where}; vqa {vqa}, "
        f"mapping {mapping}"
    )
    return questions, vqa, mapping


def _check_vqa(vqa: str, mapping: str, tifa: TifaOptions) -> None:
    if not vqa:
        raise ConfigError("--vqa", "missing, and tifa needs it", expected=", ".join(forms()))
    kind, _, argument = vqa.partition(":")
    if kind == "recorded" and argument and not expand_path(argument, "--vqa").is_file():
        raise ConfigError(
            "--vqa", f"got {vqa!r}: no file {argument!r}", expected="a result of TIFA"
        )
    found = find_vqa(vqa)
    if mapping == "likelihood" and not found.tells_likelihoods():
        raise ConfigError(
            "--mapping",
            f"got likelihood with {vqa!r}, which has none",
            expected="exact or embedding",
        )
    if tifa.likelihood != TifaOptions.likelihood and mapping != "likelihood":
        raise ConfigError(
            "--likelihood", f"got it with --mapping {mapping}", expected="it with likelihood"
        )
    given = {
        "--vqa-revision": tifa.revision is not None,
        "--vqa-dtype": tifa.dtype != "fp32",
        "--vqa-tokens": tifa.new_tokens != TifaOptions.new_tokens,
        "--vqa-choices": tifa.choices_in_prompt,
        "--likelihood": tifa.likelihood != TifaOptions.likelihood,
        "--recorded-model": bool(tifa.recorded_model),
    }
    for option, is_given in given.items():
        if is_given and option not in found.READS:
            names = plugins.builtin_names("vqa")
            takers = [name for name in names if option in plugins.find("vqa", name).cls.READS]
            raise ConfigError(
                option, f"got it with --vqa {vqa}", expected=f"it with {' or '.join(takers)}"
            )


def _prompts(
    request: Request,
    checkpoint: CheckpointSource | None,
    questions: list[Question],
    cache: Path,
    say: Callable[[str], None],
) -> list[Prompt]:
    """Return the prompts of the file, else those of the questions, else the budget's own."""
    if request.prompts.startswith(_COCO):
        return _coco_prompts(request, say)
    if request.prompts:
        return read_prompts(request.prompts)
    if request.tifa.questions is not None:
        return prompts_of(questions)
    return [] if checkpoint is None else _own_prompts(checkpoint.budget, cache)


def _own_prompts(budget: Budget, cache: Path) -> list[Prompt]:
    """Return the captions that a budget's trials are evaluated with."""
    evaluation = ranked_by(budget)
    if isinstance(evaluation, TifaEvaluation):
        return prompts_of(evaluation.asked(budget.data))
    _, held_out = Inputs(budget, cache).make_feed(0).held_out(evaluation.seed)
    return [Prompt(f"pair-{number:05}", caption) for number, caption in enumerate(held_out)]


def _coco_prompts(request: Request, say: Callable[[str], None]) -> list[Prompt]:
    file, colon, count = request.prompts.removeprefix(_COCO).rpartition(":")
    if not colon or not count.isdecimal() or not file:
        raise ConfigError(
            "--prompts", f"got {request.prompts!r}", expected="coco:ANNOTATIONS.json:COUNT"
        )
    seed = request.seed or 0
    prompts = draw_prompts(file, int(count), seed)
    say(f"{number_of(len(prompts), 'prompt')} drawn from {file} with seed {seed}")
    return prompts


def _check_captions(prompts: Sequence[Prompt], questions: Sequence[Question]) -> None:
    captions = {prompt.id: prompt.caption for prompt in prompts}
    for question in questions:
        name, caption = question["id"], question["caption"]
        if captions.get(name, caption) != caption:
            raise ConfigError(
                "--questions",
                f"the id {name!r} has the caption {caption!r}",
                expected=f"{captions[name]!r}, as --prompts has it",
            )
