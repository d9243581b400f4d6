from nas_t2i.protocol.rungs import Rungs
from tests.training.tiny import tiny_budget


def test_the_parts_of_a_tiny_trial(monkeypatch, cache_dir):
    import signals_cost

    monkeypatch.setenv("NAS_T2I_CACHE", str(cache_dir))
    budget = tiny_budget(3).model_copy(update={"rungs": Rungs((3,), (1, 2))})
    seconds = signals_cost.measure(budget, "SD2-C320")
    assert list(seconds) == ["start", "signals", "training", "scores"]
    assert all(spent > 0 for spent in seconds.values())
