"""Scenes that are held out of the embedded data set."""

import numpy as np
import pytest

from nas_t2i.errors import ConfigError
from nas_t2i.training.feeds.shapes import encode_shapes
from tests.training.tiny import tiny_budget, tiny_inputs


def test_no_trial_trains_on_a_held_out_scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    inputs = tiny_inputs(folder)
    data = tiny_budget().data.model_copy(update={"scenes": 2000})
    encoded = encode_shapes(data, inputs.encoder, inputs.codec, held_out=32)
    trained = {latent.numpy().tobytes() for latent in encoded.latents}
    (x0, text), captions = encoded.held_out
    assert len(x0) == len(text) == len(captions) == 32
    assert not {latent.numpy().tobytes() for latent in x0} & trained
    assert np.allclose(text, inputs.encoder.encode(captions), atol=1e-6)
    # As many as are asked for, drawn by the seed.
    feed = inputs.make_feed(0)
    assert feed.held_out(0).captions == inputs.make_feed(1).held_out(5).captions
    few, other = feed.held_out(0, 8), feed.held_out(1, 8)
    assert len(few.captions) == 8 and few.captions != other.captions


def test_control_keeps_the_captions_of_held_out_scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    plain, control = tiny_inputs(folder), tiny_inputs(folder, True)
    assert plain.make_feed(0).held_out(0)[1] == control.make_feed(0).held_out(0)[1]


def test_too_few_scenes_are_told(tmp_path_factory):
    inputs = tiny_inputs(tmp_path_factory.mktemp("cache"))
    data = tiny_budget().data.model_copy(
        update={"scenes": 6000, "two_objects": 0.0, "two_groups": 0.0}
    )
    with pytest.raises(ConfigError, match=r"data\.scenes: got 6000, .*; expected fewer, so that"):
        encode_shapes(data, inputs.encoder, inputs.codec, held_out=500)


@pytest.mark.parametrize("shuffle", [False, True])
def test_image_noun_pairs_seen_are_of_the_images_seen(tmp_path_factory, shuffle):
    inputs = tiny_inputs(tmp_path_factory.mktemp("cache"), shuffle)
    feed = inputs.make_feed(3)
    nouns = feed._pairs.nouns
    seen = set()
    for first in range(0, 400, 100):
        seen |= set(feed.rows(first, 100).tolist())
        assert feed.image_noun_pairs_seen(first + 100) == sum(nouns[row] for row in seen)
    assert feed.image_noun_pairs_seen(0) == 0
    assert inputs.training_set.image_noun_pairs == nouns.sum()
