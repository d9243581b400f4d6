import argparse
import sys

import pytest
import torch

from nas_t2i.arch.profile import profile
from nas_t2i.arch.resolve import resolve_arch

TINY = (
    "family=unet,channels=8,channel_mult=[1, 2],transformer_depth=[0, 1],res_blocks=1,"
    "head_dim=8,norm_groups=4,text_dim=1024,latent_channels=4"
)
ON_CPU = ["--device", "cpu", "--arch", TINY, "--batch", "4", "--micro-batch", "2"]
ON_CPU += ["--latent-size", "8", "--no-compile", "--threads", "1", "--matmul", "64"]
ON_CPU += ["--warm-up", "1", "--steps", "1", "--rounds", "1"]


def options(**changes) -> argparse.Namespace:
    given = {
        "device": "cpu",
        "arch": [TINY],
        "batch": 4,
        "micro_batch": "2",
        "latent_size": 8,
        "zero_stage": 0,
        "channels_last": True,
        "compile": False,
        "threads": 1,
        "warm_up": 1,
        "steps": 1,
        "matmul": 64,
        "contenders": ["ours", "bare", "example"],
        "side_by_side": 2,
    }
    return argparse.Namespace(**given | changes)


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Watched:
    """An architecture that remembers the model that was built of it."""

    def __init__(self, arch) -> None:
        self._arch, self.call = arch, arch.call

    def build(self, latent_size):
        self.model = self._arch.build(latent_size)
        return self.model


@pytest.mark.parametrize("name", ["ours", "bare", "example"])
def test_each_contender_trains_all_weights(name):
    import gpu_training
    from bare_loop import CachedTensors

    torch.manual_seed(0)
    budget = gpu_training.make_budget(options(), 2)
    at_once = budget.training.optimizer.model_copy(update={"warmup_steps": 1})
    training = budget.training.model_copy(update={"optimizer": at_once})
    budget = budget.model_copy(update={"training": training})
    feed = CachedTensors(torch.randn(4, 4, 8, 8), torch.randn(4, 77, 1024))
    arch = Watched(resolve_arch(TINY).arch)
    take = gpu_training.CONTENDERS[name](arch, budget, feed, 2)
    before = [weight.detach().clone() for weight in arch.model.parameters()]
    take(1)
    after = list(arch.model.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_a_measurement():
    import gpu_training

    waited = []
    found = gpu_training.measure("bare", options(), lambda: waited.append("warm"))
    assert waited == ["warm"]
    assert found["seconds"] > 0
    assert found["peak"] > 2**20
    assert gpu_training.measure_matmul(options())["rate"] > 1e6


def test_what_ours_reads_is_timed_by_part():
    import gpu_training

    found = gpu_training.measure_batches(options(batch=64, micro_batch="32"))
    assert 0 < found["time steps"] < found["all"]
    assert 0 < found["noise"] < found["all"]


def test_contenders_differ_in_how_they_are_compiled():
    import gpu_training

    def compiled(name, **changes):
        return gpu_training.make_budget(options(**changes), 2, name).execution.compile

    assert (compiled("ours", compile=True), compiled("ours")) == (True, False)
    assert (compiled("graphs"), compiled("eager", compile=True)) == ("reduce-overhead", False)
    assert compiled("regional") == "regional"

    def recorded(name, device):
        return gpu_training.make_budget(options(device=device), 2, name).execution.cuda_graphs

    names = ("ours", "graphs", "recorded", "eager", "shared", "bare")
    assert [name for name in names if recorded(name, "cuda")] == ["recorded", "shared"]
    assert not any(recorded(name, "cpu") for name in names)


def test_the_rate_of_several_is_of_their_images_together(monkeypatch):
    import gpu_training

    rows = [{"warm": 9.0, "seconds": 2.0, "peak": 3.0}]
    rows += [{"warm": 8.0, "seconds": 4.0, "peak": 5.0}]
    monkeypatch.setattr(gpu_training, "in_own_processes", lambda *given: rows[: given[3]])
    at_once = gpu_training.measure_once("shared", TINY, 2, options(steps=6))
    assert at_once == {"rate": 2 * 4 * 6 / 4.0, "warm": 9.0, "peak": 8.0}
    alone = gpu_training.measure_once("ours", TINY, 2, options(steps=6))
    assert alone == {"rate": 4 * 6 / 2.0, "warm": 9.0, "peak": 3.0}


def test_the_micro_batch_is_the_one_that_a_trial_finds():
    import gpu_training

    arch = resolve_arch(TINY).arch
    budget = gpu_training.make_budget(options(batch=2))
    assert gpu_training.found_micro_batch(arch, budget) == 2


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    import gpu_training

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_training.py"])
    with pytest.raises(SystemExit):
        gpu_training.main()
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_on_a_cpu(monkeypatch, capsys):
    import gpu_training

    names = ["ours", "eager", "shared", "bare", "example"]
    given = [*ON_CPU, "--side-by-side", "2", "--contenders", *names]
    monkeypatch.setattr(sys, "argv", ["gpu_training.py", *given])
    gpu_training.main()
    printed = capsys.readouterr().out
    assert "not measured" not in printed
    rows = [line.split() for line in printed.splitlines()[-5:]]
    assert [row[0] for row in rows] == names
    assert rows[0][5] == "1.000x"


def test_a_contender_that_fails_is_told_of_and_left_out(monkeypatch, capsys):
    import gpu_training

    rates = {"matmul": 2e12, "ours": 20.0, "bare": 10.0}

    def measured(kind, *_):
        return {"rate": rates[kind], "peak": 2.0**30} if kind in rates else None

    monkeypatch.setattr(gpu_training, "in_own_processes", lambda *_: [])
    monkeypatch.setattr(gpu_training, "measure_once", measured)
    monkeypatch.setattr(sys, "argv", ["gpu_training.py", *ON_CPU])
    gpu_training.main()
    ours, bare = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert (ours[0], ours[1], ours[4]) == ("ours", "20.0", "1.00")
    assert (bare[0], bare[5]) == ("bare", "2.000x")
    gmacs = profile(resolve_arch(TINY).arch, latent_size=8).gmacs
    assert float(ours[3].rstrip("%")) == pytest.approx(100 * 6e9 * gmacs * 20 / 2e12, abs=0.06)


def test_why_a_contender_failed(monkeypatch, capsys):
    import gpu_training

    monkeypatch.setattr(sys, "argv", ["gpu_training.py", *ON_CPU, "--batch", "many"])
    assert gpu_training.in_own_processes("bare", TINY, 2, 2) == []
    assert "bare: not measured: gpu_training.py: error: argument --batch" in capsys.readouterr().out
