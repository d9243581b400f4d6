"""The embedded data set: small images of coloured shapes with captions.

A scene holds one group of one to four equal objects ("three green triangles"), two groups side by
side or one above the other ("a red circle to the left of two blue squares"), or three single
objects around a corner ("a red circle to the left of a blue square above a white cross": each
relation is of its two neighbours). The groups of a scene differ in colour and in shape, so that
every question has one answer. Images are 16 x 16 RGB, light shapes on dark grey. Scenes are kept as
arrays, one row a scene: 20,000 of them are made and rendered in about a second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from nas_t2i.streams import uniform_rows

SIZE = 16  # image side, pixels
RADIUS = 2.7  # nominal radius of an object, pixels
SHAPES = ("circle", "square", "triangle", "cross")
PLURALS = ("circles", "squares", "triangles", "crosses")
COLORS = ("red", "green", "blue", "yellow", "purple", "white")
NUMBERS = ("one", "two", "three", "four")
RELATIONS = ("to the left of", "to the right of", "above", "below")
PLACES = ("to the left", "to the right", "above", "below")  # answers to "where", as RELATIONS
BACKGROUND = (48, 48, 48)
PALETTE = (
    (235, 45, 45),
    (45, 190, 60),
    (50, 95, 245),
    (240, 220, 45),
    (205, 45, 225),
    (245, 245, 245),
)
# One object; 2-4 equal; two objects; two groups; three objects.
KINDS = ("one", "count", "two", "groups", "three")
GROUPS = 3  # that a scene has at most

_SLOT = 4.0  # distance of a slot's centre from the image's middle, along either axis, pixels
_SHIFT = 2.0  # two single objects together, across their axis, either way
_OWN_SHIFT = 1.0  # each of two single objects, across their axis, either way
_WANDER = 2.0  # a single object, each axis, either way
_CORNER_SHIFT = 1.0  # three objects together, each axis, either way
_DRAWS = 16  # random numbers a scene may use
_MORE_DRAWS = 4  # further ones, of a mixture with three objects or with pairs that are left out

# Quadrants (x sign, y sign) a group takes: on one side of a relation, or the whole image.
_QUADRANTS = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)], dtype=np.float64)
_SIDES = {0: (0, 2), 1: (1, 3), 2: (0, 1), 3: (2, 3)}  # left, right, above, below

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Mixture:
    """How often each kind of scene is drawn. The rest of the probability is one group of 1-4."""

    two: float = 0.55  # two single objects
    groups: float = 0.15  # two groups, one of a single object and one of two
    three: float = 0.0  # three single objects
    left_out: int = 0  # so many pairs of `left_out_pairs` are in no scene


def left_out_pairs(count: int) -> tuple[tuple[int, int], ...]:
    """The first `count` pairs (shape, colour) to leave out, at most 12.

    All 12 have every shape three times and every colour twice.
    """
    return tuple((i % len(SHAPES), i % len(COLORS)) for i in range(count))


@dataclass(frozen=True)
class Scenes:
    """N scenes. A group that is absent has count 0."""

    shape: IntArray  # (N, GROUPS) index into SHAPES, by group
    color: IntArray  # (N, GROUPS) index into COLORS
    count: IntArray  # (N, GROUPS)
    relation: IntArray  # (N,) index into RELATIONS, of the first group to the second
    next_relation: IntArray  # (N,) of the second group to the third, on the other axis
    centers: FloatArray  # (N, 4, 2) x, y in pixels from the upper left corner; y points down
    owner: IntArray  # (N, 4) group of each object, -1 for none
    difficulty: FloatArray  # (N,) 0..1: how far objects may stray from the regular layout

    def __len__(self) -> int:
        return int(self.relation.shape[0])

    def take(self, rows: npt.NDArray[np.int64]) -> Scenes:
        """The scenes of the given rows, in that order."""
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @property
    def kind(self) -> IntArray:
        """(N,) index into KINDS."""
        total = self.count.sum(axis=1)
        groups = (self.count > 0).sum(axis=1)
        several = np.where(groups == 1, 1, 3)
        return np.where(groups == 3, 4, np.where(total > groups, several, 2 * (groups - 1)))


def _pick(u: FloatArray, n: int) -> IntArray:
    return np.minimum((u * n).astype(np.int64), n - 1)


def sample_scenes(
    seed: int, purpose: str, count: int, *, start: int = 0, mixture: Mixture | None = None
) -> Scenes:
    """Scenes ``start .. start + count`` of the stream (seed, purpose); any slice gives the same."""
    mix = mixture or Mixture()
    u = uniform_rows(seed, purpose, start, count, _DRAWS)
    more = uniform_rows(seed, f"{purpose}: more", start, count, _MORE_DRAWS)
    shape_a, color_a = _pick(u[:, 0], len(SHAPES)), _pick(u[:, 1], len(COLORS))
    # The second group's shape and colour are any but the first's.
    shape_b = (shape_a + 1 + _pick(u[:, 2], len(SHAPES) - 1)) % len(SHAPES)
    color_b = (color_a + 1 + _pick(u[:, 3], len(COLORS) - 1)) % len(COLORS)
    shape, color = np.stack([shape_a, shape_b], axis=1), np.stack([color_a, color_b], axis=1)
    relation = _pick(u[:, 4], len(RELATIONS))
    three = u[:, 5] >= 1.0 - mix.three
    paired = u[:, 5] < mix.two + mix.groups
    grouped = u[:, 5] < mix.groups
    larger = _pick(u[:, 6], 2)  # which of two groups holds two objects
    alone = 1 + _pick(u[:, 6], len(NUMBERS))
    count_a = np.where(paired, np.where(grouped & (larger == 0), 2, 1), alone)
    count_b = np.where(paired, np.where(grouped & (larger == 1), 2, 1), 0)
    groups = np.where(three, 3, np.where(paired, 2, 1))
    number = np.stack([np.where(three, 1, count_a), np.where(three, 1, count_b), three], axis=1)
    shape, color, next_relation = _third(shape, color, relation, more)
    if mix.left_out:
        shape, color = _of_trained_pairs(groups, mix.left_out, more[:, 3])
    difficulty = u[:, 7]
    owner, centers = _layout(number, relation, next_relation, difficulty, 2.0 * u[:, 8:] - 1.0)
    return Scenes(
        shape=shape,
        color=color,
        count=number,
        relation=relation,
        next_relation=next_relation,
        centers=centers,
        owner=owner,
        difficulty=difficulty,
    )


def _third(
    shape: IntArray, color: IntArray, relation: IntArray, u: FloatArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Shapes and colours (N, 3) with a third group unlike the two; its relation, to the second."""
    wide = []
    for known, names, draw in ((shape, SHAPES, u[:, 0]), (color, COLORS, u[:, 1])):
        # counted among those that are left: pass over the smaller of the two, then the larger
        third = _pick(draw, len(names) - 2)
        third = third + (third >= known.min(axis=1))
        third = third + (third >= known.max(axis=1))
        wide.append(np.column_stack([known, third]))
    return wide[0], wide[1], (relation // 2 ^ 1) * 2 + _pick(u[:, 2], 2)


@cache
def _attributes(groups: int, left_out: int) -> tuple[IntArray, IntArray]:
    """All shapes and colours (n, GROUPS) that so many groups may have."""
    barred = set(left_out_pairs(left_out))
    rows = [
        (shape, color)
        for shape in permutations(range(len(SHAPES)), GROUPS)
        for color in permutations(range(len(COLORS)), GROUPS)
        if barred.isdisjoint(zip(shape[:groups], color[:groups], strict=True))
    ]
    shape, color = (np.array(part, dtype=np.int64) for part in zip(*rows, strict=True))
    return shape, color


def _of_trained_pairs(groups: IntArray, left_out: int, u: FloatArray) -> tuple[IntArray, IntArray]:
    """Shapes and colours (N, GROUPS), no group's of a pair that is left out, all others alike."""
    shape, color = np.empty((2, len(groups), GROUPS), dtype=np.int64)
    for number in range(1, GROUPS + 1):
        rows = groups == number
        shapes_of, colors_of = _attributes(number, left_out)
        chosen = _pick(u[rows], len(shapes_of))
        shape[rows], color[rows] = shapes_of[chosen], colors_of[chosen]
    return shape, color


def names_left_out(scenes: Scenes, left_out: int) -> npt.NDArray[np.bool_]:
    """(N, GROUPS): whether a group is there and is of a pair that is left out."""
    barred = np.zeros((len(SHAPES), len(COLORS)), dtype=bool)
    for pair in left_out_pairs(left_out):
        barred[pair] = True
    return barred[scenes.shape, scenes.color] & (scenes.count > 0)


def _layout(
    count: IntArray,
    relation: IntArray,
    next_relation: IntArray,
    difficulty: FloatArray,
    spread: FloatArray,
) -> tuple[IntArray, FloatArray]:
    """Owners (N, 4) and centres (N, 4, 2) of the objects; ``spread`` is (N, 5+) in [-1, 1)."""
    n = len(relation)
    rows = np.arange(n)
    owner = np.full((n, 4), -1, dtype=np.int64)
    offset = np.zeros((n, 4, 2))
    three = count[:, 2] > 0
    paired = (count[:, 1] > 0) & ~three
    horizontal = relation < 2
    # One group: one object in the middle, two in a row, three or four in quadrants.
    for number in range(1, 5):
        rows_here = rows[(count[:, 1] == 0) & (count[:, 0] == number)]
        owner[rows_here, :number] = 0
        if number == 2:
            offset[rows_here, 0, 0], offset[rows_here, 1, 0] = -_SLOT, _SLOT
        elif number > 2:
            offset[rows_here] = _SLOT * _QUADRANTS
    # Two groups: each has its side; one object sits in the middle of it, two fill its quadrants.
    for side, quadrants in _SIDES.items():
        for group in (0, 1):
            # the first group stands where the relation says, the second opposite
            at_side = relation == (side if group == 0 else side ^ 1)
            here = rows[paired & at_side]
            first = 2 * group  # objects 0, 1 are the first group's, 2, 3 the second's
            owner[here, first] = group
            offset[here, first] = _SLOT * _QUADRANTS[list(quadrants)].mean(axis=0)
            two = rows[paired & at_side & (count[:, group] == 2)]
            owner[two, first + 1] = group
            offset[two, first] = _SLOT * _QUADRANTS[quadrants[0]]
            offset[two, first + 1] = _SLOT * _QUADRANTS[quadrants[1]]
    _around_corner(rows[three], relation, next_relation, owner, offset)
    stray = difficulty[:, None]
    # Two single objects slide across their axis, together and each a little.
    pair = paired & (count.sum(axis=1) == 2)
    across = np.where(horizontal, 1, 0)
    slide = stray * (_SHIFT * spread[:, 0:1] + _OWN_SHIFT * spread[:, 1:3])
    for group in (0, 1):
        offset[rows[pair], 2 * group, across[pair]] += slide[pair, group]
    # A single object wanders.
    single = rows[count.sum(axis=1) == 1]
    offset[single, 0] += _WANDER * stray[single] * spread[single, 3:5]
    # Three objects move together.
    offset[three, :3] += (_CORNER_SHIFT * stray[three] * spread[three, :2])[:, None]
    # Whole pixels: what is to be learned is what is drawn where, not a fringe for each fraction.
    return owner, SIZE / 2 + np.rint(offset)


def _around_corner(
    rows: IntArray,
    relation: IntArray,
    next_relation: IntArray,
    owner: IntArray,
    offset: FloatArray,
) -> None:
    """Set owner and offset of `rows`: the second of three objects is at the corner."""
    sign = np.array([-1.0, 1.0, -1.0, 1.0])  # of the first one's offset, by RELATIONS
    axis, next_axis = relation[rows] // 2, next_relation[rows] // 2
    owner[rows, :3] = np.arange(3)
    corner = np.empty((len(rows), 2))
    n = np.arange(len(rows))
    corner[n, axis] = -_SLOT * sign[relation[rows]]
    corner[n, next_axis] = _SLOT * sign[next_relation[rows]]
    offset[rows, :3] = corner[:, None]
    offset[rows, 0, axis] *= -1
    offset[rows, 2, next_axis] *= -1


# Area of each shape at radius 1, in the order of SHAPES; see `coverage`.
_SQUARE, _BASE, _HEIGHT, _ARM, _HALF_ARM = 0.9, 1.1, 1.9, 1.1, 0.4
AREAS = (
    float(np.pi),
    4 * _SQUARE**2,
    _BASE * _HEIGHT,
    4 * (2 * _ARM * _HALF_ARM - _HALF_ARM**2),
)


def coverage(shape: int, x: FloatArray, y: FloatArray, radius: FloatArray | float) -> FloatArray:
    """How much of each pixel a shape covers, 0..1, from the distance to its edge in pixels.

    ``x`` and ``y`` are the pixel centres relative to the shape's centre of mass; all arrays
    broadcast. The distance is exact on the edge, which is all that the one-pixel ramp needs.
    """
    ax, ay = np.abs(x), np.abs(y)
    if shape == 0:
        distance = np.sqrt(x * x + y * y) - radius
    elif shape == 1:
        distance = np.maximum(ax, ay) - _SQUARE * radius
    elif shape == 2:
        slope = 1.0 / float(np.hypot(_HEIGHT, _BASE))
        side = (_HEIGHT * ax - _BASE * y) * slope - 2 / 3 * _HEIGHT * _BASE * slope * radius
        distance = np.maximum(side, y - _HEIGHT / 3 * radius)
    else:
        arm, half = _ARM * radius, _HALF_ARM * radius
        distance = np.minimum(np.maximum(ax - arm, ay - half), np.maximum(ax - half, ay - arm))
    return np.clip(0.5 - distance, 0.0, 1.0)


def render(scenes: Scenes) -> Images:
    """The scenes' images, (N, 16, 16, 3) uint8."""
    n = len(scenes)
    images = np.empty((n, SIZE, SIZE, 3), dtype=np.float32)
    images[:] = BACKGROUND
    paint = (np.array(PALETTE) - np.array(BACKGROUND)).astype(np.float32)
    grid = np.arange(SIZE) + 0.5
    for slot in range(4):
        group = scenes.owner[:, slot]
        for shape in range(len(SHAPES)):
            rows = np.flatnonzero((group >= 0) & (scenes.shape[np.arange(n), group] == shape))
            x = grid[None, None, :] - scenes.centers[rows, slot, 0, None, None]
            y = grid[None, :, None] - scenes.centers[rows, slot, 1, None, None]
            alpha = coverage(shape, x, y, RADIUS)
            # objects never overlap, so that adding is painting over
            images[rows] += alpha[..., None] * paint[scenes.color[rows, group[rows]]][:, None, None]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def _phrase(shape: int, color: int, count: int) -> str:
    noun = SHAPES[shape] if count == 1 else PLURALS[shape]
    return f"{'a' if count == 1 else NUMBERS[count - 1]} {COLORS[color]} {noun}"


def nouns(scenes: Scenes) -> IntArray:
    """(N,) different nouns of each caption, by construction: shapes, one a group, all different."""
    different: IntArray = (scenes.count > 0).sum(axis=1)
    return different


def captions(scenes: Scenes) -> list[str]:
    """One caption a scene."""
    out = []
    for shape, color, count, relation, next_relation in zip(
        scenes.shape.tolist(),
        scenes.color.tolist(),
        scenes.count.tolist(),
        scenes.relation.tolist(),
        scenes.next_relation.tolist(),
        strict=True,
    ):
        text = _phrase(shape[0], color[0], count[0])
        for group, between in ((1, relation), (2, next_relation)):
            if count[group]:
                text += f" {RELATIONS[between]} {_phrase(shape[group], color[group], count[group])}"
        out.append(text)
    return out
