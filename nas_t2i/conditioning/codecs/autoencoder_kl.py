"""Learned latents: a frozen diffusers ``AutoencoderKL``, from a folder or a hub.

Latents are in the scaled units that denoisers work in, ``(z - shift) * scale`` of the autoencoder's
own z. Both numbers come from its config.json: 0.18215 for Stable Diffusion 1 and 2, 0.13025 for
SDXL, and a shift in some newer ones. A config without ``scaling_factor`` was written before there
was another, and means 0.18215, as it does in diffusers.

Many configs have ``force_upcast``: the arithmetic overflows in fp16, as SDXL's does. It needs no
heed here, where fp32 and bf16 are what there is, and bf16 has the range of fp32. On CUDA, fp32
convolutions follow torch's setting for TF32 (``torch.backends.cudnn.allow_tf32``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from nas_t2i.conditioning.codecs.common.images import check_images
from nas_t2i.conditioning.weights import (
    CONFIG,
    DTYPES,
    fetch,
    fingerprint_of,
    lasting,
    one_line,
    weights_files,
    weights_patterns,
)
from nas_t2i.errors import ConfigError
from nas_t2i.files import read_json
from nas_t2i.protocol.conditioning import CodecSettings, Moments

_WHERE = "latents.model"
_STEM = "diffusion_pytorch_model"
_CLASS = "AutoencoderKL"
_DEFAULT_SCALE = 0.18215
# Of one pass through the autoencoder, which bounds its memory: four images of 512 x 512.
_PIXELS_AT_ONCE = 2**20


class AutoencoderKL(CodecSettings):
    """A diffusers ``AutoencoderKL``, frozen; the scale (and shift) come from its config."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {
        "precision": "fp32",
        "posterior": "sample",
    }  # and a model

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

    @property
    def draws(self) -> bool:
        """Whether a latent is drawn from the posterior anew at each use."""
        return self.posterior == "sample"

    def geometry(self) -> tuple[int, int]:
        """Return (latent channels, down-sampling per side), from the config."""
        return autoencoder_geometry(self)

    def fingerprint(self) -> str:
        """Return `Autoencoder.fingerprint` without the weights in memory."""
        return autoencoder_fingerprint(self)

    def load(self, device: str = "cpu") -> Autoencoder:
        """Load the autoencoder, frozen."""
        return Autoencoder(self, device)


def autoencoder_geometry(settings: AutoencoderKL) -> tuple[int, int]:
    """Return (latent channels, down-sampling per side). Raises ConfigError."""
    found = _find(settings, (CONFIG,))
    return found.channels, found.downsampling


def autoencoder_fingerprint(settings: AutoencoderKL) -> str:
    """Return `Autoencoder.fingerprint` without the weights in memory. Raises ConfigError."""
    return _fingerprint(settings, _find(settings, _all_files()))


class Autoencoder:
    """A frozen autoencoder.

    Raises:
        ConfigError: a file is missing, damaged, or of another class of model.
    """

    def __init__(self, settings: AutoencoderKL, device: str = "cpu") -> None:
        self._settings = settings
        self._found = _find(settings, _all_files())
        self._device, self._dtype = torch.device(device), DTYPES[settings.precision]
        self._model = _load(self._found, self._dtype).to(self._device)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return self._found.channels

    @property
    def downsampling(self) -> int:
        """Image side over latent side."""
        return self._found.downsampling

    @cached_property
    def fingerprint(self) -> str:
        """What the latents depend on: the config, the weights' bytes, and the settings."""
        return _fingerprint(self._settings, self._found)

    @torch.no_grad()
    def moments(self, images: Tensor) -> Moments:
        """Encode (N, 3, H, W) uint8 images; the latents are on the autoencoder's device.

        Pixels become -1 to 1. The standard deviation is None where the settings take the
        posterior's mean.

        Raises:
            ConfigError: sides that are no multiples of the down-sampling.
        """
        check_images(images, self.downsampling)
        height, width = images.shape[2:]
        shape = (
            len(images),
            self.channels,
            height // self.downsampling,
            width // self.downsampling,
        )
        mean = torch.empty(shape, device=self._device)
        drawn = self._settings.posterior == "sample"
        std = torch.empty(shape, device=self._device) if drawn else None
        for rows in _chunks(len(images), height * width):
            pixels = images[rows].to(self._device, torch.float32) / 127.5 - 1.0
            posterior = self._model.encode(pixels.to(self._dtype)).latent_dist
            mean[rows] = (posterior.mean.float() - self._found.shift) * self._found.scale
            if std is not None:
                std[rows] = (0.5 * posterior.logvar.float()).exp() * self._found.scale
        return Moments(mean, std)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(N, C, h, w) scaled latents to (N, 3, H, W) uint8, clipped, on their device."""
        height, width = (side * self.downsampling for side in latents.shape[2:])
        images = torch.empty(
            (len(latents), 3, height, width), dtype=torch.uint8, device=latents.device
        )
        for rows in _chunks(len(latents), height * width):
            z = latents[rows].to(self._device, torch.float32) / self._found.scale
            pixels = self._model.decode((z + self._found.shift).to(self._dtype)).sample.float()
            images[rows] = ((pixels + 1.0) * 127.5).round().clamp(0, 255).to(images)
        return images


def _chunks(count: int, pixels: int) -> Iterator[slice]:
    size = max(1, _PIXELS_AT_ONCE // pixels)
    for start in range(0, count, size):
        yield slice(start, start + size)


@dataclass(frozen=True)
class _Found:
    """Where an autoencoder lies and what its config says."""

    folder: Path
    config: dict[str, Any]
    channels: int
    downsampling: int
    scale: float
    shift: float


def _all_files() -> tuple[str, ...]:
    return (CONFIG, *weights_patterns(_STEM))


def _find(settings: AutoencoderKL, files: tuple[str, ...]) -> _Found:
    """Return the autoencoder, its config read; fetch `files` of a hub id. Raises ConfigError."""
    inside = settings.subfolder.strip("/")
    wanted = [f"{inside}/{file}" if inside else file for file in files]
    folder = fetch(settings.model, settings.revision, wanted, _WHERE) / inside
    file = folder / CONFIG
    config = read_json(file)
    kind = config.get("_class_name")
    if kind != _CLASS:
        raise ConfigError(
            str(file),
            f"got a model of the class {kind!r}",
            expected=_CLASS,
            hint="a pipeline's autoencoder lies in its subfolder 'vae'" if not inside else "",
        )
    if config.get("latents_mean") is not None or config.get("latents_std") is not None:
        raise ConfigError(
            str(file),
            "got latents_mean or latents_std, a scale for each channel",
            expected="scaling_factor and shift_factor only",
        )
    channels = config.get("latent_channels", 4)
    levels = config.get("block_out_channels")
    scale = config.get("scaling_factor", _DEFAULT_SCALE)
    shift = config.get("shift_factor") or 0.0
    if not isinstance(channels, int) or not isinstance(levels, list) or not levels:
        raise ConfigError(str(file), "no latent_channels or block_out_channels to go by")
    if not isinstance(scale, int | float) or not scale > 0:
        raise ConfigError(
            str(file), f"got a scaling_factor of {scale!r}", expected="a positive number"
        )
    if not isinstance(shift, int | float):
        raise ConfigError(str(file), f"got a shift_factor of {shift!r}", expected="a number")
    return _Found(folder, config, channels, 2 ** (len(levels) - 1), scale, shift)


def _fingerprint(settings: AutoencoderKL, found: _Found) -> str:
    facts = {
        "config": lasting(found.config),
        "precision": settings.precision,
        # A cache of means alone is not one of means and deviations.
        "posterior": settings.posterior,
    }
    return fingerprint_of("autoencoder_kl", facts, weights_files(found.folder, _STEM))


def _load(found: _Found, dtype: torch.dtype) -> Any:
    """Return the frozen model. Raises ConfigError."""
    from diffusers import AutoencoderKL as Model

    files = weights_files(found.folder, _STEM)
    try:
        model, report = Model.from_pretrained(
            found.folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            # Else diffusers recommends a package that is of no use here, at every load.
            low_cpu_mem_usage=False,
            torch_dtype=dtype,
        )
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            str(files[0]), f"not weights of the {_CLASS} of {CONFIG} ({one_line(error)})"
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            str(files[0]),
            f"not weights of the {_CLASS} of {CONFIG}: no {missing[0]} "
            f"({len(missing)} tensors are missing)",
        )
    return model.eval().requires_grad_(False)
