"""A trained trial to evaluate, made once."""

from pathlib import Path

import pytest
import torch

from nas_t2i.events import read_events
from nas_t2i.records import CurvePoint, RungEvent
from nas_t2i.search.trial_config import TrialConfig
from tests.search.processes import follow
from tests.search.test_trial import start, tiny_config


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("NAS_T2I_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="package")
def trial(cache, tmp_path_factory) -> tuple[Path, TrialConfig, CurvePoint]:
    """A trial of three steps, as a study leaves it, and what it measured itself at the last."""
    folder, config = tmp_path_factory.mktemp("study"), tiny_config(3)
    follow(start(folder, config))
    events, _ = read_events(folder / config.key / "events.jsonl")
    last = [event.point for event in events if isinstance(event, RungEvent)][-1]
    return folder / config.key, config, last
