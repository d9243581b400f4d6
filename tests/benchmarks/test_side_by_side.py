import pytest


@pytest.mark.slow
def test_processes_train_at_once(monkeypatch, cache_dir):
    import side_by_side

    monkeypatch.setenv("NAS_T2I_CACHE", str(cache_dir))
    assert side_by_side.images_per_second(2, 1, 1, "SDXL-TD4_4") > 0
