"""Signals: their definition by hand, and that nothing but the model decides them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.sampling.checkpoint import CheckpointSource
from nas_t2i.evaluation.signals import Signals, other_captions, signals, stratified_steps
from nas_t2i.evaluation.standalone.signals import check_signals
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.protocol.signals import SIGNALS, SignalSettings
from nas_t2i.training import noise
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import Ranks
from tests.conditioning.tiny_pairs import PIXELS, ROOT, clip_text, pairs_budget
from tests.data.shard_maker import make_image
from tests.training.tiny import tiny_arch, tiny_budget


@pytest.fixture(scope="module")
def budget():
    settings = SignalSettings(pairs=16, seed=3)
    return tiny_budget().model_copy(update={"signals": settings})


@pytest.fixture(scope="module")
def inputs(budget, tmp_path_factory):
    return Inputs(budget, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def denoiser():
    made = build_denoiser(tiny_arch(), latent_size=8, latent_channels=12, seed=0)
    with torch.no_grad():  # at birth the text reaches nothing: projections begin at zero
        for i, weight in enumerate(made.parameters()):
            torch.manual_seed(i)
            weight.add_(0.05 * torch.randn_like(weight))
    return made.eval()


def values(found):
    return {name: (signal.value, signal.stderr) for name, signal in found.items()}


def test_the_definition_by_hand():
    errors = np.array([[1.0, 2.0, 3.0, 2.0], [2.0, 4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0]])
    found = signals(errors, np.array([10, 400, 600, 900]), 1000, "s")
    assert found.keys() == SIGNALS.keys()
    loss, text, caption = (found[name] for name in SIGNALS)
    assert (loss.value, loss.n) == (2.0, 4)
    assert loss.stderr == pytest.approx(np.std([1, 2, 3, 2], ddof=1) / 2)
    assert text.value == pytest.approx(math.log(20 / 8))
    assert caption.value == pytest.approx(math.log(10 / 8))
    difference = errors[1] / 5 - errors[0] / 2
    assert text.stderr == pytest.approx(difference.std(ddof=1) / 2)
    assert np.mean(text.per_pair) == pytest.approx(text.value, abs=1e-5)
    assert list(text.by_noise) == ["0-249", "250-499", "500-749", "750-999"]
    assert text.by_noise["750-999"].value == pytest.approx(math.log(8 / 2))
    assert text.by_noise["750-999"].stderr is None  # of one pair


def test_a_model_of_known_errors(budget, inputs):
    class Zero(nn.Module):
        def forward(self, x, t, text):
            return text.mean(dim=(1, 2))[:, None, None, None].expand_as(x)

    found = Signals(budget, inputs).measure(Zero(), Ranks.alone())
    (x0, text), captions = inputs.make_feed(0).held_out(3, 16)
    t = stratified_steps(3, 16, 1000)
    weight = noise.loss_weight(noise.ldm_schedule(), "sample", t, "min_snr_plus_one", 5.0)

    def errors(features):
        output = features.mean(dim=(1, 2))[:, None, None, None]
        return (weight * (output - x0).square().mean(dim=(1, 2, 3))).double().numpy()

    own, empty = errors(text), errors(inputs.null_text.expand_as(text))
    other = errors(text[other_captions(captions)])
    assert found["heldout_loss"].value == pytest.approx(own.mean(), rel=1e-5)
    gain = math.log(empty.mean() / own.mean())
    assert found["text_gain"].value == pytest.approx(gain, abs=1e-5)
    gain = math.log(other.mean() / own.mean())
    assert found["caption_gain"].value == pytest.approx(gain, abs=1e-5)


def test_text_that_can_not_reach_the_prediction_gains_exactly_nothing(budget, inputs, denoiser):
    class Deaf(nn.Module):
        def forward(self, x, t, text):
            return denoiser(x, t, torch.zeros_like(text))

    deaf = Signals(budget, inputs).measure(Deaf(), Ranks.alone())
    for name in ("text_gain", "caption_gain"):
        assert (deaf[name].value, deaf[name].stderr) == (0.0, 0.0)
        assert set(deaf[name].per_pair) == {0.0}
    hearing = Signals(budget, inputs).measure(denoiser, Ranks.alone())
    assert hearing["text_gain"].value != 0 != hearing["caption_gain"].value


def test_neither_batch_size_nor_ranks_decide(budget, inputs, denoiser):
    whole = Signals(budget, inputs).measure(denoiser, Ranks.alone())
    sampler = budget.evaluation.sampler.model_copy(update={"batch": 5})
    evaluation = budget.evaluation.model_copy(update={"sampler": sampler})
    few = Signals(budget.model_copy(update={"evaluation": evaluation}), inputs)
    small = few.measure(denoiser, Ranks.alone())
    parts = [few._errors(denoiser, Ranks(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    assert [part.shape for part in parts] == [(3, 8), (3, 8)]

    class OneOfTwo(Ranks):
        def gather(self, value):
            assert np.array_equal(value, parts[1])
            return parts

    split = few.measure(denoiser, OneOfTwo(1, 2, torch.device("cpu")))
    for name, signal in whole.items():
        for other in (small, split):
            assert other[name].value == pytest.approx(signal.value, rel=1e-5, abs=1e-6)
            assert other[name].signature == signal.signature


def test_a_trial_s_seed_decides_nothing_and_the_signals_seed_does(budget, inputs, denoiser):
    again = Signals(budget, Inputs(budget, inputs.cache_dir))
    first = Signals(budget, inputs).measure(denoiser, Ranks.alone())
    assert again.measure(denoiser, Ranks.alone()) == first
    other = budget.model_copy(update={"signals": SignalSettings(pairs=16, seed=4)})
    found = Signals(other, inputs).measure(denoiser, Ranks.alone())
    assert found["heldout_loss"].value != first["heldout_loss"].value
    assert found["heldout_loss"].signature != first["heldout_loss"].signature


def test_time_steps_are_spread_over_the_schedule():
    t = stratified_steps(0, 128, 1000)
    assert np.histogram(t, bins=[0, 250, 500, 750, 1000])[0].tolist() == [32] * 4


def test_another_caption_is_another_one():
    assert other_captions(["a", "a", "b", "a"]) == [2, 2, 3, 2]
    assert other_captions(["a", "a"]) == [0, 1]


@pytest.fixture
def own_pairs(tmp_path, monkeypatch):
    """Ten images with captions in a folder, eight of them held out; nothing is cached."""
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    for number in range(10):
        (tmp_path / f"images/{number}.png").write_bytes(make_image(number, (16, 16)))
        (tmp_path / f"images/{number}.txt").write_text(f"house number {number}")
    whole = pairs_budget(
        tmp_path,
        [{"source": "folder", "path": str(tmp_path / "images")}],
        text=clip_text(tmp_path),
        latents=PIXELS,
    ).model_dump()
    whole["data"] |= {"held_out": 8, "cache": None}
    questions = ROOT / "examples/evaluate/questions.json"
    embedded = load_budget(ROOT / "budgets/embedded.yaml").model_dump()["evaluation"]
    whole["evaluation"] = embedded | {"questions": str(questions), "prompts": 4}
    return whole


def test_users_pairs_are_measured_on_those_that_are_held_out(own_pairs, tmp_path):
    budget = Budget.model_validate(own_pairs)
    assert budget.signal_pairs == budget.held_out == 8
    inputs = Inputs(budget, tmp_path)
    feed = inputs.make_feed(0)
    (x0, text), captions = feed.held_out(0, 8)
    trained = feed.samples(0, 40).x0.flatten(1)
    assert len(trained.unique(dim=0)) == 2
    assert float(torch.cdist(trained, x0.flatten(1)).min()) > 1e-2
    assert len(set(captions)) == 8

    class ByText(nn.Module):
        """Predicts the mean of a caption's features."""

        def forward(self, x, t, text):
            return text.mean(dim=(1, 2))[:, None, None, None].expand_as(x)

    found = Signals(budget, inputs).measure(ByText(), Ranks.alone())
    assert found["heldout_loss"].n == len(found["text_gain"].per_pair) == 8
    assert found["text_gain"].value != 0 != found["caption_gain"].value
    t = stratified_steps(0, 8, 1000)
    weight = noise.loss_weight(noise.ldm_schedule(), "sample", t, "min_snr_plus_one", 5.0)
    own = weight * (text.mean(dim=(1, 2))[:, None, None, None] - x0).square().mean(dim=(1, 2, 3))
    assert found["heldout_loss"].value == pytest.approx(float(own.mean()), rel=1e-5)
    assert Signals(budget, Inputs(budget, tmp_path)).measure(ByText(), Ranks.alone()) == found


def test_users_pairs_of_which_none_is_held_out_have_no_signals(own_pairs):
    own_pairs["data"]["held_out"] = 0
    budget = Budget.model_validate(own_pairs)
    assert budget.signals is not None and budget.signal_pairs == 0
    checkpoint = CheckpointSource(Path("w"), tiny_arch(), budget, {})
    with pytest.raises(
        ConfigError, match=r"t: its budget 'embedded_v1' has no pairs that are held o"
    ):
        check_signals(["text_gain"], Path("t"), checkpoint)
