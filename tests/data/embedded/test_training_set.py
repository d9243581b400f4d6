"""The size of the embedded training set, against its captions."""

import pytest

from nas_t2i.data.embedded import shapes
from nas_t2i.data.embedded.training_set import DATA_SEED, mixture, training_set
from nas_t2i.protocol.budget import load_budget
from tests.golden.frozen import REPOSITORY


@pytest.mark.parametrize("name", ["embedded", "embedded_v1"])
def test_nouns_are_the_shapes_that_the_captions_name(name):
    data = load_budget(REPOSITORY / f"budgets/{name}.yaml").data.model_copy(update={"scenes": 3000})
    scenes = shapes.sample_scenes(DATA_SEED, "train", 3000, mixture=mixture(data))
    singular = dict(zip((*shapes.SHAPES, *shapes.PLURALS), shapes.SHAPES * 2, strict=True))
    named = [
        {singular[word] for word in caption.split() if word in singular}
        for caption in shapes.captions(scenes)
    ]
    assert shapes.nouns(scenes).tolist() == [len(nouns) for nouns in named]
    found = training_set(data)
    assert (found.images, found.captions) == (3000, 3000)
    assert found.image_noun_pairs == sum(map(len, named))
    assert found.nouns_by == "construction"


def test_the_default_budget_has_so_many():
    found = training_set(load_budget(REPOSITORY / "budgets/embedded.yaml").data)
    assert found.image_noun_pairs == 47_056
