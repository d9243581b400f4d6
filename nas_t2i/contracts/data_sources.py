"""What a source of pairs keeps to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nas_t2i.contracts import Check
from nas_t2i.data.sources.common.parts import Part, Rejected
from nas_t2i.protocol.data import Source

_LOOKED_AT = 20  # samples of the first part


def checks(source: Source) -> Iterator[Check]:
    """Check a source that is there."""
    parts = source.parts("data.sources[0]")
    yield Check("it has parts", "" if parts else "got none")
    again = source.parts("data.sources[0]")
    names = [(part.name, part.identity) for part in parts]
    same = names == [(part.name, part.identity) for part in again]
    yield Check("parts come in a lasting order with lasting identities", "" if same else "differ")
    apart = len(set(names)) == len(names)
    yield Check("no two parts are the same", "" if apart else "some have one name and identity")
    line = source.described()
    yield Check("it is described in a line", "" if line and "\n" not in line else f"{line!r:.60}")
    yield from _samples(parts[0])


def _samples(part: Part) -> Iterator[Check]:
    found = [s for s in islice(part.samples(), _LOOKED_AT) if not isinstance(s, Rejected)]
    yield Check("its first part has samples", "" if found else "got none that are good")
    keys = {sample.key for sample in found}
    yield Check("samples have keys of their own", "" if len(keys) == len(found) else "some share")
    for sample in found[:1]:
        content = part.read("image", sample.key, sample.image)
        good = isinstance(content, bytes) and len(content) == sample.image.size
        yield Check("an image's bytes are as many as it says", "" if good else f"{len(content)}")
        pixels = part.image(sample.key, sample.image, 16, 10**8)
        fits = pixels.shape == (3, 16, 16) and pixels.dtype.name == "uint8"
        yield Check("an image is (3, side, side) uint8", "" if fits else f"got {pixels.shape}")
