"""What early losses say about architectures whose finals were measured."""

import numpy as np
import pytest

from nas_t2i.ranking.observations import Observation
from nas_t2i.ranking.posterior import Posterior, believe
from tests.ranking.made import SCALE

EARLY, LAST = 100, 400


def single_seeds(
    generator: np.random.Generator, tells: float, at: int = EARLY
) -> tuple[np.ndarray, list[Observation], list[Observation]]:
    """True finals of 20 architectures; one seed's final of each; the held-out loss at a step."""
    true = generator.normal(0.5, 1.0, 20)
    final = true + generator.normal(0, 0.45, 20)
    shown = tells * true + generator.normal(0, 0.3, 20)
    names = [f"A{i:03}" for i in range(20)]
    finals = [
        Observation(name, 0, LAST, float(SCALE.back(value)))
        for name, value in zip(names, final, strict=True)
    ]
    losses = [
        Observation(name, 0, at, signals={"heldout_loss": float(np.exp(-0.2 * value))})
        for name, value in zip(names, shown, strict=True)
    ]
    return true, finals, losses


def missed(posterior: Posterior, true: np.ndarray) -> float:
    return float(np.mean((posterior.location - true) ** 2))


@pytest.mark.parametrize(("tells", "most"), [(1.0, 0.8), (0.0, 1.1)])
def test_an_early_loss_that_tells_helps_and_one_that_does_not_costs_little(tells, most) -> None:
    generator = np.random.default_rng(3)
    alone, told, held = [], [], []
    for number in range(60):
        true, finals, losses = single_seeds(generator, tells)
        alone.append(missed(believe(finals, SCALE, draws=400, seed=number), true))
        posterior = believe([*finals, *losses], SCALE, draws=400, seed=number)
        told.append(missed(posterior, true))
        low, high = np.quantile(posterior.draws, [0.025, 0.975], axis=0)
        held += list((low <= true) & (true <= high))
    assert np.mean(told) < most * np.mean(alone)
    assert np.mean(held) > 0.93


def test_a_late_loss_is_not_asked_because_it_knows_of_the_seeds_luck() -> None:
    _, finals, losses = single_seeds(np.random.default_rng(0), 1.0, at=300)
    alone, beside = believe(finals, SCALE), believe([*finals, *losses], SCALE)
    assert np.array_equal(alone.location, beside.location)


def test_own_finals_count_half_at_least() -> None:
    """However well the loss fits: the noise of single seeds is a guess."""
    _, finals, losses = single_seeds(np.random.default_rng(0), 1.0)
    posterior = believe([*finals, *losses], SCALE)
    one = posterior.architectures.index("A003")
    higher = [
        Observation(o.architecture, o.seed, o.step, 0.95 if o.architecture == "A003" else o.score)
        for o in finals
    ]
    moved = believe([*higher, *losses], SCALE).location[one] - posterior.location[one]
    own = float(SCALE.forward(np.array([0.95]))[0]) - posterior.estimate.mean[one]
    assert moved > 0.45 * own  # and the regression takes a part of it along
