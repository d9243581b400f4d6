"""Trials that go on from checkpoints at a URL."""

from __future__ import annotations

from nas_t2i.mirror.study import Mirror
from nas_t2i.search.runner import Runner, RunningTrial
from nas_t2i.search.trial_config import TrialConfig


class FetchingRunner:
    """Brings a trial's checkpoints before another runner starts it."""

    def __init__(self, runner: Runner, mirror: Mirror) -> None:
        self._runner, self._mirror = runner, mirror

    def start(self, config: TrialConfig) -> RunningTrial:
        """Start a trial where its last checkpoint, here or at the URL, left it."""
        self._mirror.fetch_checkpoints(config.key)
        return self._runner.start(config)
