"""What the learned VQA model is taught with: images with distortions, and their answers.

Half of the images are scenes of the benchmark as they are rendered. The other half is put
together from the images of single objects: none to four, of any mix of shapes and colours, at any
place, each of them scaled, turned, sheared, tinted or faded, some of them halfway between two
shapes or colours, with specks that count as nothing. Three quarters of all images are then
distorted as a whole: noise, stains, blur, gain and offset of the colours, shifts by parts of a
pixel, warps, missing bits.

Nothing here knows the size or the outline of an object: single objects are rendered, and everything
else is done to pixels.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nas_t2i.data.embedded.shapes import (
    COLORS,
    GROUPS,
    PLACES,
    SHAPES,
    SIZE,
    Mixture,
    Scenes,
    render,
    sample_scenes,
)
from nas_t2i.streams import normal_rows, uniform_rows

# The scenes among the lessons, by the groups of objects that they have at most.
MIXTURES = {2: Mixture(0.5, 0.2), 3: Mixture(0.25, 0.15, 0.45)}
SLOTS = 4  # objects that an image holds at most
PAIRS = tuple(combinations(range(len(SHAPES)), 2))  # of shapes; "where" is asked of the first
NONE = -100  # a target that is not asked for

_MIDDLE = SIZE / 2
_PIECES = SLOTS + 1  # objects, and one speck
_PIECE_DRAWS = 25  # random numbers a piece may use
_LAYOUT_DRAWS = 9  # random numbers that an image's layout may use
_DISTORTION_DRAWS = 21  # random numbers that an image's distortion may use
_COARSE = 4  # side of the grids that stains and warps are drawn on


class Targets(NamedTuple):
    """What is true of N images."""

    there: Tensor  # (N, shapes, colours) 0 or 1: is there one of that shape and colour?
    number: Tensor  # (N, shapes) int64: how many of a shape
    seen: Tensor  # (N, colours) 0 or 1: is there one of that colour?
    color: Tensor  # (N, shapes) int64: the colour most objects of a shape have; NONE: no or a tie
    shape: Tensor  # (N, colours) int64: the shape most objects of a colour have; NONE likewise
    place: Tensor  # (N, PAIRS) int64 into PLACES: where the first shape is from the second


class Objects(NamedTuple):
    """The objects of N images, SLOTS each."""

    shape: Tensor  # (N, SLOTS) int64
    color: Tensor  # (N, SLOTS) int64
    present: Tensor  # (N, SLOTS) bool
    center: Tensor  # (N, SLOTS, 2) x, y in pixels


class _Draws(NamedTuple):
    """The random numbers of N images."""

    piece: Tensor  # (N, _PIECES, _PIECE_DRAWS) uniform
    layout: Tensor  # (N, _LAYOUT_DRAWS) uniform
    distortion: Tensor  # (N, _DISTORTION_DRAWS) uniform
    grain: Tensor  # (N, 3, SIZE, SIZE) normal
    coarse: Tensor  # (N, 5, _COARSE, _COARSE) normal: stains of three colours, warp along x and y


class _Columns:
    """Hands out the last axis of random numbers from left to right, none of them twice."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers, self._at = numbers, 0

    def __call__(self) -> Tensor:
        return self.some(1)[..., 0]

    def some(self, count: int) -> Tensor:
        out = self._numbers[..., self._at : self._at + count]
        assert out.shape[-1] == count
        self._at += count
        return out


def examples(
    seed: int, purpose: str, start: int, count: int, groups: int = 2
) -> tuple[Tensor, Targets]:
    """Images (count, 3, SIZE, SIZE), float32 0..255 in whole numbers, and what is true of them.

    A function of the arguments alone; any slice of a stream gives the same images, up to
    rounding. Every other image is a scene of the benchmark, of at most so many groups.
    """
    draws = _draw(seed, purpose, start, count)
    scenes = sample_scenes(seed, f"{purpose}: scenes", count, start=start, mixture=MIXTURES[groups])
    rendered = torch.arange(start, start + count) % 2 == 0
    composed, parts = _compose(draws)
    images = torch.where(_wide(rendered), to_tensor(render(scenes)), composed)
    objects = Objects(
        *(
            torch.where(rendered.view(-1, *[1] * (known.ndim - 1)), known, part)
            for known, part in zip(objects_of(scenes), parts, strict=True)
        )
    )
    spared = draws.distortion[:, -1] < 0.25
    images = torch.where(_wide(spared), images, _distort(images, draws))
    return images.round().clamp(0, 255), targets(objects)


def _wide(values: Tensor) -> Tensor:
    """(N, ...) to (N, ..., 1, 1, 1): one value for all of an image."""
    return values[..., None, None, None]


def distorted_scenes(
    seed: int, purpose: str, scenes: Scenes
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Images (N, SIZE, SIZE, 3) of scenes, every one distorted as a whole."""
    images = _distort(to_tensor(render(scenes)), _draw(seed, purpose, 0, len(scenes)))
    out: npt.NDArray[np.uint8] = (
        images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    )
    return out


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, 0..255."""
    return torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)


def objects_of(scenes: Scenes) -> Objects:
    """The objects of scenes."""
    present = torch.from_numpy(scenes.owner >= 0)
    owner = torch.from_numpy(scenes.owner).clamp(min=0)
    return Objects(
        shape=torch.from_numpy(scenes.shape).gather(1, owner),
        color=torch.from_numpy(scenes.color).gather(1, owner),
        present=present,
        center=torch.from_numpy(scenes.centers).float(),
    )


def targets(objects: Objects) -> Targets:
    """What is true of images that hold these objects."""
    shapes = functional.one_hot(objects.shape, len(SHAPES)) * objects.present[..., None]
    colors = functional.one_hot(objects.color, len(COLORS))
    pairs = torch.einsum("nks,nkc->nsc", shapes, colors)
    number = shapes.sum(1)
    center = torch.einsum("nks,nkd->nsd", shapes.float(), objects.center)
    center = center / number.clamp(min=1)[..., None]
    return Targets(
        there=(pairs > 0).float(),
        number=number,
        seen=(pairs.sum(1) > 0).float(),
        color=_most(pairs),
        shape=_most(pairs.transpose(1, 2)),
        place=_place(number, center),
    )


def _most(counts: Tensor) -> Tensor:
    """Index of the largest count on the last axis; NONE where all are 0 or two are largest."""
    top = counts.topk(2, dim=-1)
    certain = top.values[..., 0] > top.values[..., 1]
    return torch.where(certain, top.indices[..., 0], NONE)


def _place(number: Tensor, center: Tensor) -> Tensor:
    """Where the first shape of each pair is from the second; NONE where it is on the diagonal."""
    first, second = (torch.tensor(side) for side in zip(*PAIRS, strict=True))
    way = center[:, first] - center[:, second]
    far, wide = way.abs().amax(dim=-1), way.abs().amin(dim=-1)
    axis = way.abs().argmax(dim=-1)
    behind = way.gather(-1, axis[..., None])[..., 0] > 0
    both = (number[:, first] > 0) & (number[:, second] > 0)
    out = 2 * axis + behind  # PLACES: left, right, above, below
    assert len(PLACES) == 4
    return torch.where(both & (far > 1.5 * wide) & (far > 2), out, NONE)


def _draw(seed: int, purpose: str, start: int, count: int) -> _Draws:
    widths = [_PIECES * _PIECE_DRAWS, _LAYOUT_DRAWS, _DISTORTION_DRAWS]
    uniform = uniform_rows(seed, f"{purpose}: uniform", start, count, sum(widths))
    piece, layout, distortion = torch.split(torch.from_numpy(uniform).float(), widths, dim=1)
    sizes = [3 * SIZE * SIZE, 5 * _COARSE * _COARSE]
    normal = normal_rows(seed, f"{purpose}: normal", start, count, sum(sizes))
    grain, coarse = torch.split(torch.from_numpy(np.ascontiguousarray(normal)), sizes, dim=1)
    return _Draws(
        piece=piece.reshape(count, _PIECES, _PIECE_DRAWS),
        layout=layout,
        distortion=distortion,
        grain=grain.reshape(count, 3, SIZE, SIZE),
        coarse=coarse.reshape(count, 5, _COARSE, _COARSE),
    )


def single_objects() -> tuple[Tensor, Tensor]:
    """The empty image (3, H, W), and what each object adds to it (shapes, colours, 3, H, W).

    The object stands in the middle.
    """
    n = len(SHAPES) * len(COLORS)
    owner = np.full((n + 1, SLOTS), -1)
    owner[1:, 0] = 0
    index = np.arange(-1, n).clip(0)[:, None].repeat(GROUPS, axis=1)
    scenes = Scenes(
        shape=index // len(COLORS),
        color=index % len(COLORS),
        count=np.zeros((n + 1, GROUPS), dtype=np.int64),
        relation=np.zeros(n + 1, dtype=np.int64),
        next_relation=np.zeros(n + 1, dtype=np.int64),
        centers=np.full((n + 1, SLOTS, 2), _MIDDLE),
        owner=owner,
        difficulty=np.zeros(n + 1),
    )
    images = to_tensor(render(scenes))
    return images[0], (images[1:] - images[0]).view(len(SHAPES), len(COLORS), 3, SIZE, SIZE)


def _compose(draws: _Draws) -> tuple[Tensor, Objects]:
    """Images of pieces, and the objects in them."""
    empty, single = single_objects()
    piece, layout = _Columns(draws.piece), _Columns(draws.layout)
    number = (1.04 * SLOTS * layout()[:, None]).ceil().long().remainder(SLOTS + 1)  # rarely none
    # Every other object is as the first of its image, so that there is something to count.
    shape, color = (piece() * len(SHAPES)).long(), (piece() * len(COLORS)).long()
    alike, alike_color = piece() < 0.5, piece() < 0.8
    shape = torch.where(alike, shape[:, :1], shape)
    color = torch.where(alike & alike_color, color[:, :1], color)
    # Some are almost halfway to another shape or another colour.
    looks = single[shape, color]
    toward_shape = single[(piece() * len(SHAPES)).long(), color]
    looks = torch.lerp(looks, toward_shape, _wide(_sometimes(piece(), 0.25, 0.45)))
    toward_color = single[shape, (piece() * len(COLORS)).long()]
    looks = torch.lerp(looks, toward_color, _wide(_sometimes(piece(), 0.25, 0.4)))
    tint = torch.eye(3) + 0.25 * (piece.some(9).reshape(-1, _PIECES, 3, 3) - 0.5)
    looks = torch.einsum("nkij,nkjhw->nkihw", tint, looks)
    present = (torch.arange(_PIECES) < number) & (torch.arange(_PIECES) < SLOTS)
    faint = piece() < 0.04  # so faint that there is nothing
    strength = piece()
    strength = torch.where(faint, 0.15 * strength, 0.5 + 0.65 * strength)
    speck = (torch.arange(_PIECES) == SLOTS) & (layout() < 0.2)[:, None]
    center = _centers(piece.some(2), layout, number)
    looks = functional.grid_sample(
        looks.flatten(0, 1),
        _grid(piece, center).flatten(0, 1),
        padding_mode="zeros",
        align_corners=False,
    ).view(-1, _PIECES, 3, SIZE, SIZE)
    images = empty + (_wide(strength * (present | speck)) * looks).sum(1)
    objects = Objects(shape, color, present & ~faint, center)
    return images, Objects(*(part[:, :SLOTS] for part in objects))


def _sometimes(u: Tensor, share: float, most: float) -> Tensor:
    """0 for most of uniform numbers, for a ``share`` of them uniform in 0..``most``."""
    return torch.where(u < share, u * (most / share), 0.0)


def _centers(u: Tensor, layout: _Columns, number: Tensor) -> Tensor:
    """(N, _PIECES, 2): one anywhere, two on either side of the middle, more in quadrants."""
    jitter = 2.0 * u - 1.0
    reach = 3.0 + 2.0 * layout()[:, None, None]  # from the middle, along an axis
    sides = torch.tensor([(-1.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)])
    slide = torch.stack([torch.zeros(len(u)), 4.0 * layout() - 2.0], dim=-1)[:, None]
    two = reach * sides + slide + torch.tensor([0.7, 1.0]) * jitter
    two = torch.where((layout() < 0.5)[:, None, None], two, two.flip(-1))
    order = layout.some(4).argsort(dim=1)  # of the quadrants
    corners = torch.tensor([(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)])[order]
    many = reach * functional.pad(corners, (0, 0, 0, _PIECES - SLOTS)) + 0.7 * jitter
    few = torch.where((number == 1)[..., None], 3.0 * jitter, two)
    out = torch.where((number <= 2)[..., None], few, many)
    out = torch.cat([out[:, :SLOTS], 7.0 * jitter[:, SLOTS:]], dim=1)  # a speck may be anywhere
    return _MIDDLE + out


def _grid(piece: _Columns, center: Tensor) -> Tensor:
    """Where each pixel of a piece is read from: (N, _PIECES, SIZE, SIZE, 2) in -1..1."""
    size = piece()
    size = torch.cat([0.8 + 0.45 * size[:, :SLOTS], 0.25 + 0.15 * size[:, SLOTS:]], dim=1)
    stretch = 0.85 + 0.3 * piece()
    turn, shear = 0.5 * (piece() - 0.5), 0.4 * (piece() - 0.5)  # radians; pixels a pixel
    cos, sin = turn.cos(), turn.sin()
    matrix = torch.stack([cos, shear - sin, sin, cos], dim=-1).view(-1, _PIECES, 2, 2)
    matrix = matrix / torch.stack([size * stretch, size / stretch], dim=-1)[..., None]
    ticks = torch.arange(SIZE) + 0.5
    pixels = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    return torch.einsum("nkij,nkhwj->nkhwi", matrix, pixels - center[:, :, None, None]) / _MIDDLE


def _distort(images: Tensor, draws: _Draws) -> Tensor:
    """Every image its own mix of distortions, some of them absent."""
    u = _Columns(draws.distortion)
    size = (SIZE, SIZE)
    coarse = functional.interpolate(draws.coarse, size, mode="bicubic", align_corners=False)
    shift = (2.0 * u.some(2) - 1.0) * (u() < 0.5)[:, None]
    out = warp(images, shift[..., None, None] + _wide(_sometimes(u(), 0.4, 0.8)) * coarse[:, 3:])
    out = blur(out, _wide(1.4 * u() - 0.4))
    out = torch.where(_hole(u), single_objects()[0], out)
    gain = 0.75 + 0.4 * u()[:, None] + 0.2 * (u.some(3) - 0.5)
    offset = 30.0 * (u()[:, None] - 0.5) + 16.0 * (u.some(3) - 0.5)
    stain = _wide(_sometimes(u(), 0.5, 14.0)) * coarse[:, :3]
    grain = _wide(22.0 * u() ** 2) * draws.grain
    return gain[..., None, None] * out + offset[..., None, None] + stain + grain


def _hole(u: _Columns) -> Tensor:
    """(N, 1, SIZE, SIZE): three images in ten miss a rectangle of up to 4 x 4 pixels."""
    ticks = torch.arange(SIZE)
    side, corner = 1 + 3 * u.some(2)[..., None], SIZE * u.some(2)[..., None]
    inside = (ticks >= corner) & (ticks < corner + side)
    return (inside[:, 0, None, :] & inside[:, 1, :, None] & (u() < 0.3)[:, None, None])[:, None]


def warp(images: Tensor, way: Tensor) -> Tensor:
    """Images (N, 3, H, W) read ``way``, x and y in pixels, beside each pixel.

    ``way`` broadcasts to (N, 2, H, W).
    """
    count, _, side, _ = images.shape
    ticks = (torch.arange(side) + 0.5) / side * 2 - 1
    still = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    grid = still + way.expand(count, 2, side, side).permute(0, 2, 3, 1) * (2 / side)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def blur(images: Tensor, share: Tensor | float) -> Tensor:
    """Images mixed with a 3 x 3 binomial blur of them; a negative share sharpens."""
    row = torch.tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(3, 1, 3, 3)
    soft = functional.conv2d(functional.pad(images, (1, 1, 1, 1), "replicate"), kernel, groups=3)
    return images + share * (soft - images)
