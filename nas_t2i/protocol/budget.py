"""Budget: everything that is held fixed while architectures vary. A value with a stable id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nas_t2i.arch.spec import ProxyRule
from nas_t2i.expressions import Expression
from nas_t2i.yaml_files import load_document, parse_model

# Sequences come from YAML as lists; everything else is held to its exact type.
Steps = Annotated[tuple[int, ...], Field(strict=False)]
Shares = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False, min_length=1)
]
Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)
]
Betas = Annotated[tuple[float, float], Field(strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ShapesData(_Part):
    """The embedded data set: images of coloured shapes with captions."""

    source: Literal["shapes"]
    scenes: int = Field(ge=1, description="training scenes")
    two_objects: float = Field(ge=0, le=1, description="share of scenes with two single objects")
    two_groups: float = Field(ge=0, le=1, description="share of scenes with a single and a pair")
    curriculum: float = Field(
        ge=0, le=1, description="share of the steps over which scenes open from easy to all"
    )


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ShardsSource(_Part):
    """img2dataset or webdataset tar shards: image, ``.txt`` and ``.json`` members of one key."""

    source: Literal["shards"]
    urls: Annotated[Names, BeforeValidator(_listed, json_schema_input_type=str | list[str])] = (
        Field(description="tar files: paths, globs, brace ranges or URLs; ~ and $NAME are expanded")
    )
    weight: float = Field(default=1.0, gt=0, description="relative to the other sources'")


class FolderSource(_Part):
    """A folder of images, with ``metadata.jsonl`` or a ``.txt`` beside each image."""

    source: Literal["folder"]
    path: str = Field(min_length=1, description="~ and $NAME are expanded")
    weight: float = Field(default=1.0, gt=0, description="relative to the other sources'")


class ShapesSource(_Part):
    """The embedded images as one source among others, enlarged to the resolution."""

    source: Literal["shapes"]
    scenes: int = Field(ge=1, description="training scenes")
    two_objects: float = Field(ge=0, le=1, description="share of scenes with two single objects")
    two_groups: float = Field(ge=0, le=1, description="share of scenes with a single and a pair")
    weight: float = Field(default=1.0, gt=0, description="relative to the other sources'")


Source = Annotated[ShardsSource | FolderSource | ShapesSource, Field(discriminator="source")]


class CaptionField(_Part):
    """A metadata field that holds a caption, or a list of captions best first.

    ``txt`` is the text file beside the image; any other name is a key of its metadata.
    """

    field: str = Field(min_length=1)
    probability: float = Field(gt=0, le=1, description="of being the one that is trained on")
    first: int | None = Field(
        default=None, ge=1, description="of a list: draw among the first so many; null: among all"
    )


def _readable(expression: str) -> str:
    Expression(expression)
    return expression


class FilterRule(_Part):
    """Keep a pair only where an expression over its metadata holds (nas_t2i.expressions)."""

    keep: Annotated[str, AfterValidator(_readable)] = Field(
        description="for example: aesthetic >= 5 and punsafe < 0.5"
    )
    missing: Literal["drop", "keep", "error"] = Field(
        description="what becomes of a pair that lacks a field of the expression"
    )


class Duplicates(_Part):
    """Keep the first of the images that look the same."""

    hash: str = Field(
        description="a metadata field with a 64-bit hash in hex, or 'phash': computed from pixels"
    )
    distance: int = Field(ge=0, le=8, description="hashes so many bits apart are the same image")


class PairsData(_Part):
    """Users' own pairs of image and caption, from several weighted sources.

    An image is scaled until its shorter side is `resolution`, then cropped to the centre square.
    """

    source: Literal["pairs"]
    sources: Annotated[tuple[Source, ...], Field(strict=False, min_length=1)]
    resolution: int = Field(ge=8, description="side of a training image, pixels")
    captions: Annotated[tuple[CaptionField, ...], Field(strict=False, min_length=1)]
    filters: Annotated[tuple[FilterRule, ...], Field(strict=False)] = ()
    duplicates: Duplicates | None = None
    max_pixels: int = Field(
        default=100_000_000, ge=1, description="larger images, by their header, are bad samples"
    )
    bad_share: float = Field(
        ge=0, lt=1, description="share of samples that may be unreadable before the run stops"
    )
    cache: str | None = Field(
        description="folder of encoded pairs (nas-t2i data prepare); null: encode on line"
    )

    @model_validator(mode="after")
    def _probabilities_add_up(self) -> Self:
        total = sum(field.probability for field in self.captions)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"captions: got probabilities that add up to {total:g}; expected 1")
        return self


class ShapesText(_Part):
    """The embedded text encoder: trained once on captions, frozen, cached."""

    encoder: Literal["shapes"]
    width: int = Field(ge=8, description="features per token")
    steps: int = Field(ge=1, description="training steps of the encoder")
    seed: int = Field(ge=0, description="seed of the encoder; one encoder for all trials")


Layer = Literal["last", "penultimate"]
Padding = Literal["keep", "zero"]
_LAYER = "which hidden states: of the last block or of the one before, both after the final norm"
_PADDING = "features after the end of the text: 'keep' as the encoder gives them, or 'zero'"


class OpenClipText(_Part):
    """An OpenCLIP text tower, 77 tokens, frozen; no pooled embedding."""

    encoder: Literal["openclip"]
    model: str = Field(description="architecture name, for example ViT-H-14, or a config .json")
    checkpoint: str = Field(description="a pretrained tag, or a weights file (.safetensors, .pt)")
    layer: Layer = Field(description=_LAYER)
    padding: Padding = Field(description=_PADDING)
    precision: Literal["fp32", "bf16"] = Field(description="of the tower's arithmetic")


class TransformersText(_Part):
    """A transformers CLIP or T5 text encoder, frozen."""

    encoder: Literal["transformers"]
    model: str = Field(description="a local folder or a hub id")
    revision: str | None = Field(default=None, description="of a hub id: branch, tag or commit")
    tokens: int = Field(ge=1, description="longest text, in tokens; longer ones are cut")
    layer: Layer = Field(description=_LAYER)
    padding: Padding = Field(description=_PADDING)
    precision: Literal["fp32", "bf16"] = Field(description="of the encoder's arithmetic")


class PixelUnshuffle(_Part):
    """Lossless latents: factor x factor pixels become channels."""

    codec: Literal["pixel_unshuffle"]
    factor: int = Field(ge=1, description="down-sampling per side")
    scale: float = Field(gt=0, description="latent units per 127.5 grey levels")


class AutoencoderKL(_Part):
    """A diffusers ``AutoencoderKL``, frozen; the scale (and shift) come from its config."""

    codec: Literal["autoencoder_kl"]
    model: str = Field(description="a local folder or a hub id, for example stabilityai/sdxl-vae")
    revision: str | None = Field(default=None, description="of a hub id: branch, tag or commit")
    subfolder: str = Field(default="", description="of a pipeline: usually vae")
    precision: Literal["fp32", "bf16"] = Field(
        description="of its arithmetic; SDXL's fails in fp16"
    )
    posterior: Literal["sample", "mean"] = Field(
        description="draw from the posterior anew at each use, or take its mean"
    )


class Objective(_Part):
    """The diffusion objective on LDM's schedule (1000 steps, scaled-linear 0.00085..0.012)."""

    prediction: Literal["epsilon", "v", "sample"]
    weighting: Literal["uniform", "min_snr", "min_snr_plus_one"]
    snr_clip: float = Field(gt=0, description="clip of the min-SNR weight (Hang et al. 2023)")
    caption_drop: float = Field(ge=0, lt=1, description="share of captions replaced by the null")


class Optimizer(_Part):
    """AdamW and its learning rate: linear warm-up, constant, optional linear decay to zero."""

    learning_rate: float = Field(gt=0)
    betas: Betas
    weight_decay: float = Field(ge=0)
    eps: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay_share: float = Field(ge=0, le=1, description="last share of the steps with linear decay")
    grad_clip: float = Field(ge=0, description="global gradient norm; 0: no clipping")


class Training(_Part):
    """One trial's training run."""

    steps: int = Field(ge=1, description="optimiser steps of a full trial")
    batch: int = Field(ge=1, description="global batch, images per optimiser step")
    optimizer: Optimizer
    ema_decay: float = Field(ge=0, lt=1, description="0: evaluate the raw weights")
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"] = Field(
        description="bf16: with fp32 master weights and fp32 gradient accumulation"
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(description="DeepSpeed's ZeRO stage")
    threads: int = Field(
        ge=1, description="CPU threads per trial; part of the id: sums depend on it"
    )


class Sampler(_Part):
    """How a checkpoint draws images for evaluation: DDIM, eta 0."""

    steps: int = Field(ge=1, le=1000, description="DDIM steps")
    guidance: float = Field(ge=0, description="classifier-free guidance scale; 1: none")
    batch: int = Field(ge=1, description="images per batch; changes speed, not results")


EMBEDDED_VQA = ("shapes", "learned")  # answer the embedded prompts' questions, and no others


class _FurtherMetric(_Part):
    at: Literal["every_rung", "last_rung"] = Field(
        default="last_rung", description="where it is measured"
    )


class ClipMetric(_FurtherMetric):
    """CLIP score: the cosine of an image's and its prompt's OpenCLIP embeddings."""

    metric: Literal["clip"]
    model: str = Field(description="architecture name, for example ViT-L-14, or a config .json")
    checkpoint: str = Field(description="a pretrained tag, or a weights file (.safetensors, .pt)")
    prefix: str = Field(default="", description="put before every prompt")
    scale: float = Field(default=1.0, gt=0, description="of the cosine")
    clamp: bool = Field(default=False, description="an image's negative cosine counts as 0")


class HpsMetric(_FurtherMetric):
    """HPSv2: human preference, the cosine by a fine-tuned OpenCLIP ViT-H/14."""

    metric: Literal["hps"]
    checkpoint: str = Field(description="a weights file, for example HPS_v2.1_compressed.pt")
    version: Literal["v2.0", "v2.1"] = Field(description="of the weights; not comparable")
    model: str = Field(default="ViT-H-14", description="architecture name, or a config .json")


class ImageRewardMetric(_FurtherMetric):
    """ImageReward: a reward model of human preference on BLIP's towers."""

    metric: Literal["image_reward"]
    checkpoint: str = Field(description="a weights file, for example ImageReward.pt")
    tokenizer: str = Field(
        default="google-bert/bert-base-uncased", description="a local folder or a hub id"
    )


class FidMetric(_FurtherMetric):
    """FID: distance of the drawn images' Inception features from those of real images."""

    metric: Literal["fid"]
    reference: str = Field(
        description="statistics of real images (.npz), as evaluate --save-reference writes them"
    )
    inception: str | None = Field(
        default=None, description="InceptionV3's weights file; null: downloaded"
    )
    side: int | None = Field(
        default=None, ge=1, description="images are cut and resized to squares of it first"
    )


class TifaMetric(_FurtherMetric):
    """TIFA of images drawn for the captions of a question file, beside held-out R^2."""

    metric: Literal["tifa"]
    vqa: str = Field(description="who answers, as in an evaluation by TIFA")
    questions: str = Field(description="a file in TIFA's layout; ~ and $NAME are expanded")
    prompts: int = Field(ge=2, description="the first so many captions of the file are drawn")
    mapping: str = Field(default="exact", description="how answers are read")


ImageMetricSettings = ClipMetric | HpsMetric | ImageRewardMetric
FurtherMetric = ImageMetricSettings | FidMetric | TifaMetric
FurtherMetrics = Annotated[
    tuple[Annotated[FurtherMetric, Field(discriminator="metric")], ...], Field(strict=False)
]
_FURTHER = "further metrics of drawn images, on record beside the one that is ranked by"


class TifaEvaluation(_Part):
    """TIFA of images drawn for the embedded prompts, or for the captions of a question file."""

    metric: Literal["tifa"]
    vqa: str = Field(
        description="who answers: shapes or learned, of the embedded prompts; blip:MODEL, "
        "vilt:MODEL, git:MODEL or blip2:MODEL, a local folder or a hub id"
    )
    prompts: int = Field(ge=2, description="evaluation prompts, the same for every trial")
    seed: int = Field(ge=0, description="seed of prompts and of each prompt's starting noise")
    sampler: Sampler
    questions: str | None = Field(
        default=None,
        description="a file in TIFA's layout, of whose captions the first `prompts` are drawn; "
        "~ and $NAME are expanded; null: the embedded prompts",
    )
    mapping: str = Field(
        default="exact", description="how answers are read: exact, embedding, embedding:MODEL"
    )
    metrics: FurtherMetrics = Field(default=(), description=_FURTHER)


class HeldOutEvaluation(_Part):
    """How well noise is told from image on pairs that no trial trains on.

    Held-out R^2 is one minus the squared error of the prediction over the mean square of its
    target, with the noise and the time step of a pair the same for every model.
    """

    metric: Literal["heldout_r2"]
    prompts: int = Field(ge=2, description="held-out pairs, the same for every trial")
    seed: int = Field(ge=0, description="seed of their noise, time steps and captions")
    pictures: int = Field(ge=0, description="drawn at each rung, for people to look at")
    sampler: Sampler
    metrics: FurtherMetrics = Field(default=(), description=_FURTHER)


Evaluation = Annotated[TifaEvaluation | HeldOutEvaluation, Field(discriminator="metric")]


class EarlyStopping(_Part):
    """Stop a trial at a rung when it is out of the best share, and provably so.

    A trial goes on when it is among the best ``ceil(share * n)`` of the n trials seen at the rung
    so far, or its paired difference to the last kept one is within `margin` standard errors.
    """

    keep: Shares = Field(description="share that goes on, for each rung but the last")
    margin: float = Field(ge=0, description="standard errors of the paired difference over prompts")
    min_peers: int = Field(ge=1, description="nobody stops before this many trials saw the rung")


class SearchPlan(_Part):
    """How candidates are chosen. Not part of the id: it changes who is tried, not any score."""

    trials: int = Field(ge=1, description="distinct architectures to try, included ones first")
    seeds_per_architecture: int = Field(
        ge=1, description="trials per architecture; scores are means"
    )
    parallel: int = Field(ge=0, description="trials side by side; 0: one per `threads` cores")
    sampler: Literal["tpe", "random", "gp", "qmc"]
    sampler_options: dict[str, Any] = Field(description="keyword arguments of Optuna's sampler")
    early_stopping: EarlyStopping | None = Field(description="null: every trial runs to the end")
    stall_minutes: float = Field(gt=0, description="a trial silent for so long is killed")


class Execution(_Part):
    """How a trial runs: speed, memory and rounding, not what is computed. Not part of the id."""

    ranks: int = Field(default=1, ge=1, description="processes (one a device) that train a trial")
    hostfile: str | None = Field(
        default=None, description="DeepSpeed hostfile of a trial's nodes; null: this machine"
    )
    include: str | None = Field(
        default=None, description="DeepSpeed's --include, for example node1:0,1@node2:0,1"
    )
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="images of one rank's forward pass; auto: as many as fit"
    )
    offload: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="'optimizer' and 'param': DeepSpeed's offload settings, passed through",
    )
    gradient_checkpointing: bool = False
    channels_last: bool = False
    compile: bool = Field(default=False, description="torch.compile the denoiser")
    workers: int = Field(default=2, ge=0, description="threads of a rank that read and decode")
    checkpoint_minutes: float = Field(
        default=10.0, gt=0, description="between two checkpoints; rungs are always saved"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="older ones are removed")


class Budget(_Part):
    """A budget file (budgets/*.yaml)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: Annotated[ShapesData | PairsData, Field(discriminator="source")]
    text: Annotated[ShapesText | OpenClipText | TransformersText, Field(discriminator="encoder")]
    latents: Annotated[PixelUnshuffle | AutoencoderKL, Field(discriminator="codec")]
    init_from: str | None = Field(
        default=None,
        description="weights to go on from: a study (same architecture and seed), a trial, "
        "or a diffusers folder; null: random",
    )
    proxy: ProxyRule | None = Field(description="the narrower stand-in; null: train the full one")
    objective: Objective
    training: Training
    evaluation: Evaluation
    rungs: Steps = Field(min_length=1, description="steps at which a trial is evaluated")
    search: SearchPlan
    execution: Execution = Field(default_factory=Execution)

    @model_validator(mode="after")
    def _rungs_ascend_to_the_end(self) -> Self:
        ascending = all(a < b for a, b in zip(self.rungs, self.rungs[1:], strict=False))
        if not ascending or self.rungs[0] < 1 or self.rungs[-1] != self.training.steps:
            raise ValueError(
                f"rungs: got {list(self.rungs)}; expected ascending steps that end at "
                f"training.steps ({self.training.steps})"
            )
        return self

    @model_validator(mode="after")
    def _one_share_a_rung(self) -> Self:
        stopping = self.search.early_stopping
        if stopping and len(self.rungs) > 1 and len(stopping.keep) != len(self.rungs) - 1:
            raise ValueError(
                f"search.early_stopping.keep: got {len(stopping.keep)} shares; expected "
                f"{len(self.rungs) - 1}, one for each rung but the last"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        training, execution = self.training, self.execution
        if training.batch % execution.ranks:
            raise ValueError(
                f"training: got a batch of {training.batch} for {execution.ranks} ranks; expected "
                "a multiple of execution.ranks"
            )
        micro = execution.micro_batch
        if micro != "auto" and training.batch // execution.ranks % micro:
            raise ValueError(
                f"execution: got micro_batch {micro}; expected a divisor of "
                f"{training.batch // execution.ranks} (training.batch / ranks)"
            )
        own_captions = isinstance(self.data, PairsData) and any(
            source.source != "shapes" for source in self.data.sources
        )
        if isinstance(self.text, ShapesText) and own_captions:
            raise ValueError(
                "text: got the encoder 'shapes', which reads the embedded captions only; "
                "expected 'openclip' or 'transformers' for other data"
            )
        if isinstance(self.data, ShapesData) and self.evaluation.metric == "heldout_r2":
            raise ValueError(
                "evaluation: got the metric 'heldout_r2', which needs held-out pairs; expected "
                "'tifa' with the data 'shapes'"
            )
        self._check_evaluation()
        unknown = set(execution.offload) - {"optimizer", "param"}
        if unknown:
            raise ValueError(
                f"execution: got offload of {sorted(unknown)}; expected 'optimizer' or 'param'"
            )
        return self

    def _check_evaluation(self) -> None:
        evaluation = self.evaluation
        names = [metric.metric for metric in evaluation.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.metrics: got {', '.join(names)}; expected each once")
        drawn = [name for name in names if name != "tifa"]  # which draws its own
        if isinstance(evaluation, HeldOutEvaluation):
            if drawn and evaluation.pictures < 2:
                raise ValueError(
                    f"evaluation.pictures: got {evaluation.pictures}; expected 2 or more for "
                    f"{drawn[0]} to score"
                )
            for metric in evaluation.metrics:
                if isinstance(metric, TifaMetric):
                    _check_budget_mapping("evaluation.metrics: mapping", metric.mapping)
            return
        if "tifa" in names:
            raise ValueError("evaluation.metrics: got tifa, which is the metric ranked by already")
        embedded = evaluation.vqa in EMBEDDED_VQA
        if evaluation.questions is None and not embedded:
            raise ValueError(
                f"evaluation.vqa: got {evaluation.vqa!r} for the embedded prompts; expected "
                f"{' or '.join(EMBEDDED_VQA)}, or a file of questions"
            )
        _check_budget_mapping("evaluation.mapping", evaluation.mapping)

    @property
    def budget_id(self) -> str:
        """A stable id of all that decides a score: what is computed, not how fast or by whom.

        Left out are the name, the search plan and the execution. So is every optional key that
        has its default: a key added in a later release changes no older budget's id.
        """
        fixed = self.model_dump(
            mode="json", exclude={"name", "search", "execution"}, exclude_defaults=True
        )
        # The image batch decides speed alone; where the cache lies decides nothing.
        del fixed["evaluation"]["sampler"]["batch"]
        fixed["data"].pop("cache", None)
        text = json.dumps(fixed, sort_keys=True, separators=(",", ":"))
        return f"budget-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _check_budget_mapping(key: str, mapping: str) -> None:
    if mapping == "likelihood":
        raise ValueError(
            f"{key}: got 'likelihood'; expected 'exact', 'embedding' or 'embedding:MODEL' in a "
            "budget"
        )


def load_budget(path: str | Path) -> Budget:
    """Read a budget file. Raises ConfigError with file, line, column and key path."""
    return parse_model(load_document(path), Budget)
