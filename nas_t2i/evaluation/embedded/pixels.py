"""The embedded benchmark's visual question answering: reads the pixels, knows nothing else.

An image is cut into connected regions of one palette colour; each region's shape is the one whose
ideal image, at the region's own centre and area, overlaps it best, and only if the overlap is
good enough for a person to agree. Questions are answered from that list of objects. Where it holds
no evidence (no such object to give the colour of), the answer is a guess among the choices, drawn
from a hash of the image and the question: deterministic, and right as often as chance.

The ideal images are the renderer's own, so that a perfect score on rendered scenes says that the
geometry is consistent, and nothing about a malformed object: that is what the overlap is for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_t2i.data.embedded.shapes import (
    AREAS,
    BACKGROUND,
    COLORS,
    NUMBERS,
    PALETTE,
    PLACES,
    SHAPES,
    coverage,
)
from nas_t2i.evaluation.embedded.question_forms import (
    Form,
    HowMany,
    IsThere,
    WhatColor,
    WhatShape,
    Where,
    guess,
    parse_question,
)
from nas_t2i.evaluation.tifa.types import Question

VERSION = 1  # raise when an answer may change: part of every score's signature
MIN_OVERLAP = 0.75  # soft intersection over union of a region and its ideal shape
MIN_AREA = 3  # pixels; smaller regions are specks
_SOLID = 0.5  # share of an object's colour from which a pixel belongs to it


@dataclass(frozen=True)
class Seen:
    """One object found in an image."""

    color: int  # index into COLORS
    shape: int  # index into SHAPES, -1 if it looks like none of them
    x: float  # centre of mass, pixels from the left
    y: float  # pixels from the top
    area: float  # pixels
    overlap: float  # with the ideal image of the nearest shape, 0..1


def look(images: npt.NDArray[np.uint8]) -> list[list[Seen]]:
    """The objects in each of (N, H, W, 3) images, in reading order of their first pixel."""
    n, height, width, _ = images.shape
    light = images.astype(np.float32) - np.array(BACKGROUND, dtype=np.float32)
    rays = (np.array(PALETTE) - np.array(BACKGROUND)).astype(np.float32)  # (colours, 3)
    # A pixel at an object's edge lies on the line from the background to the object's colour:
    # its position on the line is the share covered, its distance from the line the misfit.
    share = np.clip(light @ rays.T / (rays**2).sum(axis=1), 0.0, 1.0)  # (N, H, W, colours)
    misfit = ((light[..., None, :] - share[..., None] * rays) ** 2).sum(axis=-1)
    color = misfit.argmin(axis=-1)
    best = np.take_along_axis(share, color[..., None], axis=-1)[..., 0]
    solid = best >= _SOLID
    labels = _components(np.where(solid, color, -1))
    found: list[list[Seen]] = [[] for _ in range(n)]
    names, pixels = np.unique(labels[labels >= 0], return_counts=True)
    names = names[pixels >= MIN_AREA]
    if not len(names):
        return found
    image, first = names // (height * width), names % (height * width)
    region = labels[image] == names[:, None, None]  # (regions, H, W)
    hue = color[image, first // width, first % width]
    # The soft edge: neighbours of the region that belong to no other one.
    padded = np.pad(region, ((0, 0), (1, 1), (1, 1)))
    near = np.zeros_like(region)
    for dy in range(3):
        for dx in range(3):
            near |= padded[:, dy : dy + height, dx : dx + width]
    zone = near & (region | ~solid[image])
    alpha = np.where(zone, share[image, :, :, hue], 0.0)
    area = alpha.sum(axis=(1, 2))
    ys, xs = np.arange(height) + 0.5, np.arange(width) + 0.5
    cx = (alpha * xs).sum(axis=(1, 2)) / area
    cy = (alpha * ys[:, None]).sum(axis=(1, 2)) / area
    overlaps = np.empty((len(names), len(SHAPES)))
    x = xs[None, None, :] - cx[:, None, None]
    y = ys[None, :, None] - cy[:, None, None]
    for shape, unit in enumerate(AREAS):
        radius = np.sqrt(area / unit)[:, None, None]
        ideal = coverage(shape, x, y, radius)
        overlaps[:, shape] = np.minimum(alpha, ideal).sum(axis=(1, 2)) / np.maximum(
            alpha, ideal
        ).sum(axis=(1, 2))
    shape_of = overlaps.argmax(axis=1)
    overlap = overlaps.max(axis=1)
    for i in range(len(names)):
        found[image[i]].append(
            Seen(
                color=int(hue[i]),
                shape=int(shape_of[i]) if overlap[i] >= MIN_OVERLAP else -1,
                x=float(cx[i]),
                y=float(cy[i]),
                area=float(area[i]),
                overlap=float(overlap[i]),
            )
        )
    return found


def _components(color: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Labels of the 4-connected regions of equal value in (N, H, W); -1 where the value is -1.

    A region's label is the flat index of its first pixel: labels spread to equal neighbours until
    nothing changes, all images at once.
    """
    index = np.arange(color.size).reshape(color.shape)
    labels = np.where(color >= 0, index, -1)
    down = (color[:, 1:] == color[:, :-1]) & (color[:, 1:] >= 0)
    right = (color[:, :, 1:] == color[:, :, :-1]) & (color[:, :, 1:] >= 0)
    while True:
        before = labels.copy()
        for near, far, same in (
            (labels[:, :-1], labels[:, 1:], down),
            (labels[:, :, :-1], labels[:, :, 1:], right),
        ):
            # near and far are views of one array: the second write must not undo the first
            np.minimum(near, far, out=near, where=same)
            np.minimum(far, near, out=far, where=same)
        if np.array_equal(before, labels):
            return labels


def answer(
    images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], questions: Sequence[Question]
) -> list[str]:
    """Answers to ``questions``; question i is about image ``images[rows[i]]``.

    Only a question's text and choices are read; its answer, element and caption are not.

    Raises:
        ConfigError: a question that the embedded benchmark does not ask.
    """
    seen = look(images)
    return [
        _answer_one(seen[row], images[row], question["question"], question["choices"])
        for row, question in zip(rows.tolist(), questions, strict=True)
    ]


def _answer_one(
    objects: list[Seen], image: npt.NDArray[np.uint8], question: str, choices: list[str]
) -> str:
    said = _evidence(objects, parse_question(question))
    return said if said in choices else choices[guess(image, question, len(choices))]


def _evidence(objects: list[Seen], asked: Form) -> str | None:
    """What the objects say, None if they say nothing."""
    match asked:
        case IsThere(color, shape):
            return "yes" if any(o.color == color and o.shape == shape for o in objects) else "no"
        case WhatColor(shape):
            color = _largest([(o.color, o.area) for o in objects if o.shape == shape])
            return None if color < 0 else COLORS[color]
        case WhatShape(color):
            shape = _largest([(o.shape, o.area) for o in objects if o.color == color])
            return None if shape < 0 else SHAPES[shape]
        case HowMany(shape):
            number = sum(o.shape == shape for o in objects)
            return NUMBERS[number - 1] if 0 < number <= len(NUMBERS) else None
        case Where(shape, seen_from):
            ends = [_middle([o for o in objects if o.shape == s]) for s in (shape, seen_from)]
            if ends[0] is None or ends[1] is None:
                return None
            dx, dy = ends[0][0] - ends[1][0], ends[0][1] - ends[1][1]
            if abs(dx) >= abs(dy):
                return PLACES[0] if dx < 0 else PLACES[1]
            return PLACES[2] if dy < 0 else PLACES[3]


def _middle(objects: list[Seen]) -> tuple[float, float] | None:
    """Centre of mass of all objects together, x and y in pixels; None for no objects."""
    if not objects:
        return None
    weight = sum(o.area for o in objects)
    return (
        sum(o.x * o.area for o in objects) / weight,
        sum(o.y * o.area for o in objects) / weight,
    )


def _largest(values: list[tuple[int, float]]) -> int:
    """The value with the largest total area, the smaller of equal ones; -1 for none."""
    total: defaultdict[int, float] = defaultdict(float)
    for value, area in values:
        total[value] += area
    return min(total, key=lambda value: (-total[value], value), default=-1)
