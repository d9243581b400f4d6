from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.runner import ProcessRunner
from nas_t2i.training.feeds.inputs import latent_geometry
from tests.training.tiny import tiny_arch, tiny_budget


def test_a_real_trial_and_its_parts(tmp_path, monkeypatch, cache_dir):
    import trial_start

    monkeypatch.setenv("NAS_T2I_CACHE", str(cache_dir))
    budget = tiny_budget(steps=100_000, execution={"warm_start": False}).model_copy(
        update={"proxy": None}
    )
    factory = CandidateFactory(budget, latent_geometry(budget), (0,))
    config = factory.make(tiny_arch()).config("tiny", 0, budget, 0)
    parts = trial_start.seconds_of_parts(config, tmp_path)
    assert next(iter(parts)) == "start Python"
    assert list(parts)[-1] == "first step"
    assert all(wall > 0 and processor >= 0 for wall, processor in parts.values())
    imported, at_work = parts["import torch"]
    assert 0.3 < at_work < 2 * imported
    runner = ProcessRunner(tmp_path / "trials", stall_seconds=600)
    whole = trial_start.seconds_of_a_trial(config, runner)
    assert whole > at_work
    stderr = (tmp_path / "trials" / config.key / "stderr.log").read_text()
    assert "Traceback" not in stderr
