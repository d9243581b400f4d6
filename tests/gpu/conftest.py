import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _device():
    """Who asks for these tests has a device: without one they fail, they are not skipped."""
    if not torch.cuda.is_available():
        pytest.fail("needs a CUDA device, and torch finds none (without one: -m 'not gpu')")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, cache):
    monkeypatch.setenv("NAS_T2I_CACHE", str(cache))
