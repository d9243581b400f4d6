"""What a full-scale run takes: compute from exact counts, time from a throughput that is known.

Training compute is C = 3 x forward FLOPs x images, a multiply-add being two FLOPs and a backward
pass two forward ones (Li et al. 2024, arXiv 2404.02883: 3 x FLOPs x batch x steps). Time follows
from one number, the seconds of a forward pass of one image, whatever it is known by.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.profile import profile
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError, ConfigError, MissingExtraError, UserError
from nas_t2i.files import json_list
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.data import PairsData
from nas_t2i.protocol.signals import SIGNAL_PASSES
from nas_t2i.records import Latency, Profile
from nas_t2i.training.feeds.inputs import Geometry, latent_geometry
from nas_t2i.training.flops import training_flops

_PIXELS = 8  # a latent pixel's, along one side, of SD's and SDXL's codecs
_TRAINING_PASSES = 3  # what training on an image costs, in forward passes


@dataclass(frozen=True)
class Work:
    """What a full-scale run computes."""

    profile: Profile
    """Of the full architecture at the run's latents and text."""
    images: int
    """Trained on: batch x steps."""
    evaluation_passes: int
    """Forward passes of one image each, at all rungs together."""
    assumed: str
    """Why the size of the latents is taken from convention; "": the codec's config tells it."""

    @property
    def training_flops(self) -> float:
        """FLOPs of training."""
        return training_flops(self.profile.gmacs, self.images)

    @property
    def evaluation_flops(self) -> float:
        """FLOPs of drawing prompts and measuring signals at the rungs."""
        return training_flops(self.profile.gmacs, self.evaluation_passes) / _TRAINING_PASSES


@dataclass(frozen=True)
class Throughput:
    """How long a forward pass of one image takes on all devices together, and how that is known."""

    seconds: float
    basis: str

    def training_seconds(self, work: Work) -> float:
        """Seconds of training."""
        return _TRAINING_PASSES * self.seconds * work.images

    def evaluation_seconds(self, work: Work) -> float:
        """Seconds of the forward passes at the rungs."""
        return self.seconds * work.evaluation_passes


def work_of(arch: Arch, budget: Budget) -> Work:
    """Count what training and measuring an architecture under a budget computes.

    Raises:
        ArchError: the architecture is not made for the budget's latents or text.
    """
    data, plain = budget.data, arch.canonical()
    assert isinstance(data, PairsData)
    assumed = ""
    try:
        geometry = latent_geometry(budget)
    except (ConfigError, MissingExtraError) as error:
        # Its config may lie on the machine that will train alone. Who trains checks it again.
        tokens, width = 77, int(plain.get("text_dim", 0))
        geometry = Geometry(plain["latent_channels"], data.resolution // _PIXELS, tokens, width)
        assumed = (
            f"latents of {geometry.size}x{geometry.size} and {tokens} tokens of text are assumed: "
            f"{str(error).partition(' (')[0]}"
        )
    made_for = plain["latent_channels"], plain.get("text_dim", geometry.text_width)
    if made_for != (geometry.channels, geometry.text_width):
        raise ArchError(
            f"{name_of(arch)}: made for {made_for[0]} latent channels and text of width "
            f"{made_for[1]}; the recipe has {geometry.channels} and {geometry.text_width}"
        )
    passes = budget.evaluation.forward_passes * len(budget.full_rungs)
    passes += SIGNAL_PASSES * budget.signal_pairs * len(budget.rungs)
    counted = profile(arch, latent_size=geometry.size, text_tokens=geometry.tokens)
    return Work(counted, budget.training.batch * budget.training.steps, passes, assumed)


# ---- throughput ---------------------------------------------------------------------------------


def by_images(images_per_second: float) -> Throughput:
    """Return what a rate of training says: images a second of all devices together."""
    return Throughput(
        1 / (_TRAINING_PASSES * images_per_second),
        f"at {images_per_second:g} training images/s of all devices, as given",
    )


def by_tflops(tflops: float, work: Work, ranks: int) -> Throughput:
    """Return what sustained TFLOP/s of one device say, all ranks at the same rate."""
    flops = training_flops(work.profile.gmacs, 1) / _TRAINING_PASSES
    return Throughput(
        flops / (1e12 * tflops * ranks),
        f"at {tflops:g} TFLOP/s of each of {ranks} rank(s), as given",
    )


def by_latency(file: Path, work: Work, budget: Budget) -> Throughput:
    """Return what a record of `nas-t2i profile --latency --format json` says of this run.

    Ranks are taken to add up and a step to be three forward passes; what synchronising, the
    optimiser and reading data cost is not in it, so it is a lower bound.

    Raises:
        UserError: the record is of another architecture, size, text, number format or kind of
            device.
        ConfigError: the file is no such record.
    """
    rows = [_row(file, row) for row in json_list(file)]
    found = next((row for row in rows if row[0] == work.profile.arch_id), None)
    if found is None:
        known = ", ".join(row[0] for row in rows) or "nothing"
        raise UserError(
            f"--latency {file}: got {known}; expected a row of {work.profile.arch_id}, by "
            "nas-t2i profile --arch ... --latency --format json"
        )
    timed, training = found[1], budget.training
    device: Literal["cpu", "cuda"] = "cpu" if timed.threads else "cuda"
    expected = {
        "latent_size": (timed.latent_size, work.profile.latent_size),
        "text_tokens": (timed.text_tokens, work.profile.text_tokens),
        "dtype": (timed.dtype, training.precision),
        "device": (device, training.device),
    }
    for name, (got, wanted) in expected.items():
        if got != wanted:
            raise UserError(f"--latency {file}: got {name} {got}; expected {wanted}, the run's")
    ranks = budget.execution.ranks
    return Throughput(
        timed.median_s / timed.batch / ranks,
        f"from {1e3 * timed.median_s:.4g} ms a forward pass of batch {timed.batch} on "
        f"{timed.hardware} ({timed.dtype}{', compiled' if timed.compiled else ''}), {ranks} "
        "rank(s); a lower bound, without optimiser, communication and data",
    )


def _row(file: Path, row: Any) -> tuple[str, Latency]:
    try:
        timed = Latency.model_validate(row["latency"])
        name = row["arch_id"]
    except (KeyError, TypeError, ValidationError):
        raise ConfigError(
            str(file),
            "no record of latency",
            expected="what nas-t2i profile --latency --format json prints",
        ) from None
    if timed.median_s <= 0 or timed.batch < 1:
        raise ConfigError(str(file), f"got {timed.median_s} s for {timed.batch} images")
    return str(name), timed
