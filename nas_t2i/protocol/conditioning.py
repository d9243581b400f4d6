"""What turns captions and images into what a denoiser sees: text encoders and latent codecs.

Of each there are two sides: its settings, which a budget holds and which are the plug-in, and the
loaded model that they make. Both are asked here for no more than the rest of the program needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from nas_t2i.protocol.data import PairsData, ShapesData
from nas_t2i.protocol.part import Part

if TYPE_CHECKING:
    from torch import Tensor

Layer = Literal["last", "penultimate"]
Padding = Literal["keep", "zero"]
LAYER = "which hidden states: of the last block or of the one before, both after the final norm"
PADDING = "features after the end of the text: 'keep' as the encoder gives them, or 'zero'"


class TextEncoder(Protocol):
    """A loaded text encoder: frozen, one vector a token, nothing pooled."""

    @property
    def tokens(self) -> int:
        """Tokens of an encoded caption."""

    @property
    def width(self) -> int:
        """Features of a token."""

    @property
    def fingerprint(self) -> str:
        """What the features depend on: equal fingerprints, equal features up to rounding."""

    def encode(self, texts: list[str]) -> Tensor:
        """(N, tokens, width) float32 features, on the encoder's device."""

    def lengths(self, texts: list[str]) -> list[int]:
        """For each text, the first position from which all its features are zero."""


class TextEncoderSettings(Part, ABC):
    """A text encoder by its settings: what a plug-in of the kind ``text_encoders`` derives from."""

    EMBEDDED: ClassVar[bool] = False  # reads the captions of the embedded data set only
    EXAMPLE: ClassVar[Mapping[str, Any]] = {}  # settings to check its contract with

    encoder: str

    @abstractmethod
    def geometry(self) -> tuple[int, int]:
        """Return (tokens, features a token), without loading weights.

        Raises:
            ConfigError: there is no such encoder, or its config can't be used.
            MissingExtraError: a package of the encoder is not installed.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the loaded encoder's fingerprint, without loading weights.

        The weights' files are read once for their hash, and downloaded if they have to be. Raises
        as `geometry`.
        """

    @abstractmethod
    def load(self, cache_dir: Path, device: str = "cpu") -> TextEncoder:
        """Return the frozen encoder on a device.

        `cache_dir` may keep what can be made again. Raises as `geometry`.
        """

    def check_data(self, data: ShapesData | PairsData) -> None:
        """Raise ValueError, which names the key, for data whose captions it can't read."""

    def check(self, cache_dir: Path) -> None:
        """Make what all trials share, once, before any of them; by default there is nothing.

        Raises:
            UserError: it can't be made.
        """


class Moments(NamedTuple):
    """What an image's latent is drawn from, in scaled units: (N, C, h, w) float32 each."""

    mean: Tensor
    std: Tensor | None  # None: the latent is the mean


class Codec(Protocol):
    """A loaded latent codec: images to the tensors a denoiser works on, and back."""

    @property
    def channels(self) -> int:
        """Latent channels."""

    @property
    def downsampling(self) -> int:
        """Image side over latent side."""

    @property
    def fingerprint(self) -> str:
        """What the latents depend on: equal fingerprints, equal latents up to rounding."""

    def moments(self, images: Tensor) -> Moments:
        """Encode (N, 3, H, W) uint8 images."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to (N, 3, H, W) uint8 images."""


class CodecSettings(Part, ABC):
    """A latent codec by its settings: what a plug-in of the kind ``codecs`` derives from."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {}  # settings to check its contract with

    codec: str

    @property
    def draws(self) -> bool:
        """Whether a latent is drawn from its moments anew at each use, or is their mean."""
        return False

    @abstractmethod
    def geometry(self) -> tuple[int, int]:
        """Return (latent channels, down-sampling per side), without loading weights.

        Raises:
            ConfigError: there is no such codec, or its config can't be used.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the loaded codec's fingerprint, without loading weights. Raises as `geometry`."""

    @abstractmethod
    def load(self, device: str = "cpu") -> Codec:
        """Return the codec, frozen and on `device` where it has weights. Raises as `geometry`."""
