import pytest
import torch
from torch import nn

from nas_t2i.streams import normal_rows
from tests.training.tiny import tiny_budget


class Shrink(nn.Module):
    """Predicts its noisy input times a learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(()))
        self.calls = []

    def forward(self, noisy, t, text):
        self.calls.append(len(noisy))
        return self.factor * noisy


@pytest.fixture
def feed():
    from bare_loop import CachedTensors

    latents = torch.from_numpy(normal_rows(0, "latents", 0, 16, 12 * 8 * 8))
    return CachedTensors(latents.view(16, 12, 8, 8), torch.zeros(16, 12, 64))


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_it_learns_by_micro_batches_that_add_up_to_the_batch(feed, micro_batch):
    from bare_loop import bare_loop

    torch.manual_seed(0)
    model = Shrink()
    step = bare_loop(model, model.parameters(), feed, tiny_budget(batch=8), micro_batch)
    losses = [step() for _ in range(200)]
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    assert model.calls[:4] == ([8] * 4 if micro_batch is None else [2] * 4)
    assert len(model.calls) == 200 * (1 if micro_batch is None else 4)


def test_the_feed_goes_round(feed):
    samples = feed.samples(14, 4)
    assert torch.equal(samples.x0, feed.latents[[14, 15, 0, 1]])
    assert samples.text.shape == (4, 12, 64)
