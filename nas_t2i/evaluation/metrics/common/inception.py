"""The features that FID compares: 2048 of torch-fidelity's InceptionV3.

torch-fidelity's network has the weights of the original TensorFlow graph, its resize too: bilinear
to 299 x 299, without antialiasing, at TensorFlow 1's corners. Other programs resize otherwise, and
their figures differ. On CUDA, convolutions follow torch's setting for TF32
(``torch.backends.cudnn.allow_tf32``).
"""

from __future__ import annotations

import io
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from nas_t2i.conditioning.weights import one_line, read_tensors
from nas_t2i.errors import ConfigError, MissingExtraError
from nas_t2i.evaluation.metrics.common.weights import identity_of, weights_digest, weights_file

_WHERE = "fid.inception"
# Of one forward pass, which bounds its memory.
_IMAGES_AT_ONCE = 16


class InceptionFeatures:
    """A frozen InceptionV3.

    `weights` is torch-fidelity's file (``weights-inception-2015-12-05-6726825d.pth``); None takes
    it from torch's hub cache, downloaded if it has to be. With `side` every image is first cut to
    its central square and resized to that side (Pillow's bicubic, antialiased), as it must be
    wherever real and generated images differ in size or shape.

    Raises:
        ConfigError: a file that is missing, damaged, or of another model; or it can't be had.
        MissingExtraError: the package torch-fidelity is not installed.
    """

    dim = 2048

    def __init__(
        self, weights: str | None = None, *, side: int | None = None, device: str = "cpu"
    ) -> None:
        file = _download() if weights is None else weights_file(weights, _WHERE)
        self._model = _load(file).to(device)
        self._device = torch.device(device)
        self._side = side
        square = f"centre square, bicubic {side}, then " if side else ""
        facts = {
            "weights": weights_digest(file),
            "layer": self.dim,
            "resize": f"{square}TensorFlow 1 bilinear 299",
            "dtype": "float32",
        }
        packages = ("torch_fidelity", "torch", *(("pillow",) if side else ()))
        self.identity = identity_of("inception-v3-compat", facts, *packages)

    @torch.no_grad()
    def features(self, images: list[Image.Image]) -> npt.NDArray[np.float64]:
        """Return (N, 2048) features of RGB images of any size, in order."""
        rows = [np.zeros((0, self.dim))]
        # Images of one size share a pass: the network itself resizes them.
        for _, same in groupby(map(self._pixels, images), key=lambda pixels: pixels.shape):
            pixels = torch.stack(list(same))
            for start in range(0, len(pixels), _IMAGES_AT_ONCE):
                batch = pixels[start : start + _IMAGES_AT_ONCE].to(self._device)
                (features,) = self._model(batch)
                rows.append(features.double().cpu().numpy())
        return np.concatenate(rows)

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """(3, H, W) uint8."""
        if self._side:
            image = central_square(image, self._side)
        return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)


def central_square(image: Image.Image, side: int) -> Image.Image:
    """Cut an image to its largest central square and resize that, bicubic, antialiased."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    # Cut first: a resize of a box looks over its edges.
    square = image.crop((left, top, left + short, top + short))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def _load(file: Path) -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise MissingExtraError("FID", "metrics") from None
    # torch-fidelity unpickles the file it is given, code and all. So it gets one from memory,
    # written here, of the plain tensors that were read with care.
    state = read_tensors(file, lambda names: names)
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    try:
        return FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=stream
        )
    except RuntimeError as error:
        raise ConfigError(
            str(file),
            f"not weights of torch-fidelity's InceptionV3 ({one_line(error)})",
            expected="weights-inception-2015-12-05-6726825d.pth",
        ) from None


def _download() -> Path:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ImportError:
        raise MissingExtraError("FID", "metrics") from None
    name = str(URL_INCEPTION_V3).rsplit("/", 1)[-1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.is_file():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file), progress=False)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            _WHERE,
            f"{name} can't be downloaded ({one_line(error)})",
            hint=f"download {URL_INCEPTION_V3} and name the file",
        ) from None
    return file
