"""Whose latency is measured before the first trial: included architectures, and small spaces."""

from __future__ import annotations

from nas_t2i.arch.space import Space
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.beforehand.latencies import Latencies
from nas_t2i.search.beforehand.trainable import proposable
from nas_t2i.search.candidates import POOL


def time_included(space: Space, factory: CandidateFactory, latencies: Latencies) -> None:
    """Measure the included architectures.

    Raises:
        ConfigError: one is beyond a hard limit (file, line).
        UserError: one can't be measured.
    """
    for i, (name, arch) in enumerate(space.included):
        seconds = latencies.of(arch, name).median_s
        if reason := space.limits.check(factory.profile(arch), latency=seconds):
            space.document.fail(
                ("include", i),
                f"{name}: {reason}, on {latencies.here['hardware']}",
                expected="included entries within the limits",
            )


def all_beforehand(space: Space, *, trials: int, front: bool) -> bool:
    """Say whether a whole space is measured before the first trial.

    It is where half of it will be tried or more, or the sampler `front` has to know nearly all of
    it anyway. Else proposals are measured when they are made, while no trial runs.
    """
    return space.count() <= max(2 * trials, POOL if front else 0)


def time_all(space: Space, factory: CandidateFactory, latencies: Latencies) -> None:
    """Measure whatever may be proposed of a space, so that proposals wait for no trial."""
    latencies.measure_all(proposable(space, factory))
