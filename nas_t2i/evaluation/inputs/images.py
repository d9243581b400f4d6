"""The images that are scored, by the id of their prompt.

An image that can't be scored is no error: it is a `Problem`, its prompt is left out and counted by
reason. So that a failed drawing does not pass for a bad one, nor a bad one for a failed one, what
counts as a problem is part of the rule by which images are read, and of every signature.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas_t2i.data.images.bad_samples import BadSampleError
from nas_t2i.data.images.decode import SUFFIXES, decode_whole
from nas_t2i.errors import ConfigError, named
from nas_t2i.evaluation.inputs.json_rows import load_object
from nas_t2i.evaluation.inputs.provenance import Drawn, Provenance
from nas_t2i.untrusted.regular_files import MEGABYTE, inside, read_regular

_MOST_BYTES = 512 * MEGABYTE  # of an image file
MAX_PIXELS = 1 << 26  # 64 million; a larger "image" is a mistake or an attack

Reason = Literal["missing", "unreadable", "blank", "wrong size"]


@dataclass(frozen=True)
class Problem:
    """Why an image can't be scored."""

    reason: Reason
    detail: str = ""  # for people


class ImageSet:
    """Images by the id of their prompt, in order.

    Images from files may be JPEG, PNG or WebP; they are turned upright, transparency is laid over
    white, and all become RGB. What is blank (all pixels of one colour, as safety filters and
    numbers that overflowed leave behind) is a problem, unless `blank_counts`. With `size`
    (width, height) every other size is a problem too.

    Attributes:
        ids: of the images, in order. An image may turn out to be missing or unreadable.
        provenance: where they are from and how they are read, for signatures.
        problems: those found so far, by id.
    """

    def __init__(
        self,
        ids: Sequence[str],
        load: Callable[[str], Image.Image],
        *,
        size: tuple[int, int] | None = None,
        blank_counts: bool = False,
        provenance: Provenance | None = None,
    ) -> None:
        """`load` returns the RGB image of an id; it may raise OSError and BadSampleError."""
        self.ids = list(ids)
        self._known = frozenset(self.ids)
        self._load, self._size, self._blank_counts = load, size, blank_counts
        self._digests: dict[str, str] = {}
        self.problems: dict[str, Problem] = {}
        rule = "rgb-v1" + (",blank counts" if blank_counts else ",no blank")
        if size is not None:
            rule += f",{size[0]}x{size[1]}"
        self.provenance = provenance or Provenance(rule=rule)

    @classmethod
    def from_map(
        cls,
        file: str | Path,
        *,
        size: tuple[int, int] | None = None,
        blank_counts: bool = False,
    ) -> ImageSet:
        """Read TIFA's map of images, ``{id: path}`` in JSON; paths are relative to its folder.

        Raises:
            ConfigError: with file and line: not such a map, an id twice, a path that is no text.
        """
        row = load_object(file, "a map of prompt ids to image files")
        if not row.data:
            raise ConfigError(str(file), "no images in the map", expected="one or more")
        paths = {name: Path(file).parent / row.text_at(name) for name in row.data}
        return cls(list(paths), _loader(paths), size=size, blank_counts=blank_counts)

    @classmethod
    def at_rung(cls, ids: Sequence[str], images: npt.NDArray[np.uint8], drawn: Drawn) -> ImageSet:
        """Take images (N, H, W, 3) as a model in training drew them: every one counts.

        Raises:
            ValueError: as `from_arrays`.
        """
        found = cls.from_arrays(ids, images, blank_counts=True)
        found.provenance = Provenance(drawn)
        return found

    def drawn_by(self, drawn: Drawn, model: str) -> ImageSet:
        """Say how the images were drawn, where it was done by this program; return the set."""
        self.provenance = replace(self.provenance, drawn=drawn, model=model)
        return self

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        size: tuple[int, int] | None = None,
        blank_counts: bool = False,
    ) -> ImageSet:
        """Take the images of a folder, named ``ID.png`` (.jpg, .jpeg, .webp), sorted by name.

        Raises:
            ConfigError: no such folder, no images in it, or two of one id.
        """
        try:
            files = sorted(Path(folder).iterdir())
        except OSError as error:
            raise ConfigError(
                str(folder), f"can't be read: {error.strerror}", expected="a folder of images"
            ) from None
        paths: dict[str, Path] = {}
        for file in files:
            if file.suffix[1:].lower() not in SUFFIXES:
                continue
            if file.stem in paths:
                raise ConfigError(
                    str(file), f"{paths[file.stem].name} has the same id", expected="one an id"
                )
            paths[file.stem] = file
        if not paths:
            raise ConfigError(
                str(folder), "no images", expected="files named ID.png, .jpg, .jpeg or .webp"
            )
        load = _loader(paths, Path(folder))
        return cls(list(paths), load, size=size, blank_counts=blank_counts)

    @classmethod
    def from_arrays(
        cls,
        ids: Sequence[str],
        images: npt.NDArray[np.uint8],
        *,
        size: tuple[int, int] | None = None,
        blank_counts: bool = False,
    ) -> ImageSet:
        """Take images (N, H, W, 3) from memory, one an id.

        Raises:
            ValueError: another shape or type, another number of ids, an id twice.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images of shape {images.shape}, type {images.dtype}")
        rows = {name: row for row, name in enumerate(ids)}
        if len(rows) != len(ids) or len(ids) != len(images):
            raise ValueError(f"{len(images)} images, {len(ids)} ids, {len(rows)} of them apart")
        return cls(
            ids,
            lambda name: Image.fromarray(images[rows[name]]),
            size=size,
            blank_counts=blank_counts,
        )

    def unmatched(self, wanted: Collection[str], what: str) -> list[str]:
        """Return the ids of images that are none of the `wanted` ones, which are ids of a `what`.

        Raises:
            ConfigError: no image has one of those ids.
        """
        found = [name for name in self.ids if name not in wanted]
        if len(found) == len(self.ids):
            raise no_match(self.ids, wanted, what)
        return found

    def read(self, name: str) -> Image.Image | Problem:
        """Return the RGB image of an id, or why there is none to score."""
        found = self._read(name)
        if isinstance(found, Problem):
            self.problems[name] = found
        else:
            self._digests[name] = image_digest(found)
        return found

    def digest(self, name: str) -> str:
        """Return `image_digest` of an id's image; it is kept when the image was read.

        Raises:
            ValueError: the image is a problem.
        """
        if name not in self._digests:
            found = self.read(name)
            if isinstance(found, Problem):
                raise ValueError(f"image {name!r} is {found.reason}: {found.detail}")
        return self._digests[name]

    def _read(self, name: str) -> Image.Image | Problem:
        if name not in self._known:
            return Problem("missing", "no image of that id")
        try:
            image = self._load(name)
        except FileNotFoundError as error:
            return Problem("missing", f"{error.filename}: no such file")
        except BadSampleError as error:
            return Problem("unreadable", error.reason)
        except OSError as error:
            return Problem("unreadable", f"{error.filename}: {error.strerror}")
        except ValueError as error:  # a path that no file system takes
            return Problem("unreadable", str(error))
        if self._size is not None and image.size != self._size:
            (width, height), (wide, high) = image.size, self._size
            return Problem("wrong size", f"{width}x{height} pixels, not {wide}x{high}")
        if not self._blank_counts and _is_blank(image):
            return Problem("blank", f"all pixels are {image.getpixel((0, 0))}")
        return image


def no_match(images: Collection[str], wanted: Collection[str], what: str) -> ConfigError:
    """Return the error of images none of which has an id that is `wanted`."""
    return ConfigError(
        "images",
        f"none of the {len(images)} images has the id of a {what}: {named(images)}",
        expected=f"ids such as {named(wanted)}",
    )


def image_digest(image: Image.Image) -> str:
    """Return a hash of an image's size and RGB pixels, whatever file they came from."""
    hasher = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    hasher.update(image.convert("RGB").tobytes())
    return hasher.hexdigest()[:20]


def _is_blank(image: Image.Image) -> bool:
    return all(low == high for low, high in image.getextrema())  # type: ignore[misc]


def _loader(paths: dict[str, Path], folder: Path | None = None) -> Callable[[str], Image.Image]:
    """Return a reader of regular files; with `folder`, of those that lie in it."""

    def load(name: str) -> Image.Image:
        if folder is not None and not inside(folder, paths[name]):
            problem = "a symbolic link out of the folder"
            raise OSError(errno.EXDEV, problem, str(paths[name]))
        return decode_whole(read_regular(paths[name], _MOST_BYTES), MAX_PIXELS)

    return load
