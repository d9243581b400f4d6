"""The embedded images of shapes as a source of pairs, enlarged to the resolution."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from nas_t2i.data.embedded import shapes
from nas_t2i.data.sources.common.parts import Extent, Kind, Part, Rejected, Sample
from nas_t2i.protocol.data import Source

_SEED = 0  # the embedded data set is one data set, whatever a trial's seed
_SCENES = 4096  # of a part


class ShapesSource(Source):
    """The embedded images as one source among others, enlarged to the resolution."""

    EMBEDDED: ClassVar[bool] = True
    EXAMPLE: ClassVar[Mapping[str, Any]] = {"scenes": 30, "two_objects": 0.5, "two_groups": 0.2}

    source: Literal["shapes"]
    scenes: int = Field(ge=1, description="training scenes")
    two_objects: float = Field(ge=0, le=1, description="share of scenes with two single objects")
    two_groups: float = Field(ge=0, le=1, description="share of scenes with a single and a pair")

    def parts(self, where: str) -> Sequence[Part]:  # noqa: ARG002  nothing can be wrong with it
        """Return the scenes in pieces; see `Source.parts`."""
        starts = range(0, self.scenes, _SCENES)
        return [ShapesPart(self, start, min(_SCENES, self.scenes - start)) for start in starts]

    def described(self) -> str:
        """Return the name."""
        return self.source


class ShapesPart:
    """Scenes ``start .. start + count`` of the training set; a sample's key is its number.

    What is drawn stays in memory: 768 bytes a scene.
    """

    def __init__(self, source: ShapesSource, start: int, count: int) -> None:
        self.name = "shapes"
        self.identity = f"shapes {start} {count} {source.two_objects!r} {source.two_groups!r}"
        self._mixture = shapes.Mixture(source.two_objects, source.two_groups)
        self._start, self._count = start, count

    def samples(self) -> Iterator[Sample | Rejected]:
        """Go through the scenes; an extent's offset is the place in the part."""
        for place, caption in enumerate(self._captions):
            extent = Extent(place, len(self._png(place)))
            yield Sample(
                str(self._start + place), extent, Extent(place, len(caption.encode())), None
            )

    def read(self, kind: Kind, key: str, extent: Extent) -> bytes:  # noqa: ARG002  the place says all
        """A scene's image as PNG, 16 pixels a side, or its caption."""
        if kind == "text":
            return self._captions[extent.offset].encode()
        return self._png(extent.offset)[: extent.size]

    def image(
        self,
        key: str,  # noqa: ARG002
        extent: Extent,
        resolution: int,
        max_pixels: int,  # noqa: ARG002
    ) -> npt.NDArray[np.uint8]:
        """A scene's image, (3, resolution, resolution): every pixel becomes a square."""
        image = self._images[extent.offset]
        nearest = np.arange(resolution) * shapes.SIZE // resolution
        enlarged = image[nearest][:, nearest]
        return np.ascontiguousarray(enlarged.transpose(2, 0, 1))

    @cached_property
    def _scenes(self) -> shapes.Scenes:
        return shapes.sample_scenes(
            _SEED, "train", self._count, start=self._start, mixture=self._mixture
        )

    @cached_property
    def _captions(self) -> list[str]:
        return shapes.captions(self._scenes)

    @cached_property
    def _images(self) -> shapes.Images:
        return shapes.render(self._scenes)

    def _png(self, place: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(self._images[place]).save(stream, "PNG")
        return stream.getvalue()
