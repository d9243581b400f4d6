import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.training.tiny import tiny_budget, tiny_trainer


def test_contenders_take_turns_and_a_sleep_is_no_processor_time():
    import time

    from training_step import one_round

    order = []
    contenders = {
        "quick": lambda: order.append("quick"),
        "asleep": lambda: (order.append("asleep"), time.sleep(0.02)),
    }
    times = one_round(3, contenders)
    assert order == ["quick", "asleep"] * 3
    assert times["asleep", "wall"] > 0.02 > 4 * times["asleep", "processor"]


def test_the_parts_add_up_to_the_step(cache_dir, monkeypatch):
    import training_step

    trainer = tiny_trainer(cache_dir, tiny_budget(steps=20))
    trainer.train_to(2, lambda *_: None)
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(training_step, "time", clock)
    parts = training_step.time_parts(trainer, 5)
    assert trainer.step == 7
    rest = parts.pop("logging and the rest")
    assert list(parts)[:2] == ["data wait", "forward"]
    assert set(parts.values()) == {1000}
    assert rest + sum(parts.values()) == pytest.approx(200 * (next(ticks) - 1))


def test_both_loops_train_the_same_50_million_parameters():
    from training_step import make_case

    budget, arch, feed = make_case("50m", "cpu")
    with torch.device("meta"):
        model: nn.Module = arch.build(feed.latent_shape[1])
    assert 50e6 < sum(weight.numel() for weight in model.parameters()) < 60e6
    assert feed.text.shape[1:] == (77, arch.text_dim)
    assert budget.training.batch == 4
