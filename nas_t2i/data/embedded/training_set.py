"""The embedded training set of a budget: how its scenes are mixed, and how large it is."""

from __future__ import annotations

from nas_t2i.data.embedded import shapes
from nas_t2i.protocol.data import ShapesData
from nas_t2i.records import TrainingSet

DATA_SEED = 0
"""The embedded data set is one data set, whatever a trial's seed."""


def mixture(data: ShapesData) -> shapes.Mixture:
    """Return the data set's mixture of scene kinds."""
    return shapes.Mixture(
        data.two_objects, data.two_groups, data.three_objects, data.left_out_pairs
    )


def training_set(data: ShapesData) -> TrainingSet:
    """Return its size: one caption an image, of which construction tells the nouns."""
    scenes = shapes.sample_scenes(DATA_SEED, "train", data.scenes, mixture=mixture(data))
    return TrainingSet(
        images=data.scenes,
        captions=data.scenes,
        image_noun_pairs=int(shapes.nouns(scenes).sum()),
        nouns_by="construction",
    )
