"""Landscapes for racing_rules.py, drawn from what committed studies and an experiment show."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from nas_t2i.store import read_contents

MEASURED = Path(__file__).parents[1] / "results" / "measured" / "v1"
STUDIES = ("comparison-embedded", "sdxl-embedded", "extremes-embedded")
# Share of the steps -> (rank correlation of seed means with the final TIFA, spread between nine
# architectures over seed noise), of log(loss with the empty caption / with the right one), from
# two seeds; up to .56 with the same scenes all along.
TEXT_GAIN = {
    0.06: (0.95, 1.4),
    0.11: (0.87, 1.6),
    0.22: (0.83, 1.8),
    0.56: (0.95, 1.7),
    0.78: (0.98, 4.8),
    1.00: (0.93, 6.7),
}
SHARES = tuple(TEXT_GAIN)
RUNGS = len(SHARES)
FULL = (3, 4, 5)  # rungs that draw images and ask: TIFA, as in the committed studies
TIFA = RUNGS  # its first column; the text gain's columns are the rungs
FINAL = RUNGS + len(FULL) - 1
COLUMNS = FINAL + 1
RUNG_OF = np.array([*range(RUNGS), *FULL])
KIND = np.array([0] * RUNGS + [1] * len(FULL))
NEIGHBOURS, KINDS = 0.6, 0.5  # correlation of what one rung, or one kind, says beside the truth
START_SECONDS, SIGNAL_SECONDS = 1.0, 0.3  # a start in a warm process; a cheap rung
MOST_SEEDS = 4


def logit(p: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(p / (1 - p))


class Records:
    """What the committed studies say: finals (logit), seconds, and noise at the full rungs."""

    def __init__(self) -> None:
        curves: dict[str, list[list[float]]] = {}
        costs: dict[str, tuple[float, float]] = {}
        for study in STUDIES:
            for trial in read_contents(MEASURED / study).trials:
                if trial.control or len(trial.curve) < len(FULL):
                    continue
                row = [logit(point.scores["tifa"].value) for point in trial.curve]
                curves.setdefault(f"{study}/{trial.name}", []).append(row)
                last = trial.curve[-1]
                each = last.evaluation_seconds / len(trial.curve)
                costs[f"{study}/{trial.name}"] = last.seconds, each
        self.finals = np.array([np.mean(rows, axis=0)[-1] for rows in curves.values()])
        self.seconds = np.array([costs[name] for name in curves])
        repeated = np.array([rows for rows in curves.values() if len(rows) == 3])
        within = repeated.var(axis=1, ddof=1).mean(axis=0)
        between = repeated.mean(axis=1).var(axis=0, ddof=1) - within / 3
        # In units of the spread between architectures; that of the nine is below that of all.
        self.narrower = float(np.sqrt(between[-1])) / self.finals.std(ddof=1)
        self.noise = np.sqrt(within / between) * self.narrower
        means = repeated.mean(axis=1)
        self.correlation = [float(np.corrcoef(means[:, r], means[:, -1])[0, 1]) for r in range(3)]


class Structure:
    """Covariances of the columns: between architectures (`arch`) and between seeds (`seed`)."""

    def __init__(self, correlation: np.ndarray, noise: np.ndarray) -> None:
        apart = np.abs(RUNG_OF[:, None] - RUNG_OF)
        along = NEIGHBOURS**apart * np.where(KIND[:, None] == KIND, 1.0, KINDS)
        beside = np.sqrt(1 - correlation**2)
        self.arch = np.outer(correlation, correlation) + np.outer(beside, beside) * along
        self.seed = np.outer(noise, noise) * along


def structure(records: Records, rng: np.random.Generator | None = None) -> Structure:
    """Return the structure as measured, or (with `rng`) as it may truly be: nine are few."""
    gain = np.array(list(TEXT_GAIN.values()))
    correlation = np.concatenate([gain[:, 0], records.correlation])
    noise = np.concatenate([records.narrower / np.sqrt(gain[:, 1] ** 2 - 0.5), records.noise])
    if rng is not None:
        correlation = np.clip(correlation + rng.normal(0, 0.07, COLUMNS), 0.5, 0.995)
        noise = noise * np.exp(rng.normal(0, 0.25, COLUMNS))
    correlation[FINAL] = 1.0
    return Structure(correlation, noise)


class World:
    """One landscape: true final scores, what pieces cost, and what every trial would show."""

    def __init__(self, records: Records, architectures: int, best: float, seed: int) -> None:
        rng = np.random.default_rng([seed, architectures])
        true = structure(records, rng)
        centre, spread = records.finals.mean(), records.finals.std(ddof=1)
        drawn = rng.integers(0, len(records.finals), architectures)
        # A smoothed bootstrap: drawn from the records, moved a little, spread as before.
        moved = records.finals[drawn] + rng.normal(0, 0.35 * spread, architectures)
        quality = (moved - centre) / spread / math.hypot(1, 0.35)
        self.score = 1 / (1 + np.exp(-(logit(best) + spread * (quality - quality.max()))))
        jitter = np.exp(rng.normal(0, 0.15, architectures))
        self.train, self.ask = (records.seconds[drawn] * jitter[:, None]).T
        arch = true.arch - np.outer(true.arch[FINAL], true.arch[FINAL])  # given the quality
        beside = rng.multivariate_normal(np.zeros(COLUMNS), arch, architectures, method="eigh")
        shown = quality[:, None] * true.arch[FINAL] + beside
        noise = rng.multivariate_normal(
            np.zeros(COLUMNS), true.seed, (architectures, MOST_SEEDS), method="eigh"
        )
        self.shown = shown[:, None] + noise
        self.full_trial = records.seconds[:, 0].mean() + len(FULL) * records.seconds[:, 1].mean()


class OutOfComputeError(Exception):
    """The next piece can't be paid."""


class Race:
    """A search of one world under a fixed compute: pieces of training, each to the next rung."""

    def __init__(self, world: World, compute: float, rng: np.random.Generator) -> None:
        self.world, self.compute, self.left, self.rng = world, compute, compute, rng
        self._ahead = 0
        self.n = len(world.score)
        self.depth = np.zeros((self.n, MOST_SEEDS), dtype=int)  # rungs reached
        self.paid = np.zeros(self.n)  # seconds
        self.known = self.depth  # how far trials are as a rule may know it
        self._past: list[np.ndarray] = []

    def price(self, arch: int, seed: int, rung: int | None = None) -> float:
        """Return the seconds up to a rung (by default the next) from where the trial stands."""
        at = self.depth[arch, seed]
        to = at if rung is None else rung
        steps = SHARES[to] - (SHARES[at - 1] if at else 0.0)
        full = sum(r in FULL for r in range(at, to + 1))
        signals = SIGNAL_SECONDS * (to + 1 - at)
        return (
            START_SECONDS + steps * self.world.train[arch] + full * self.world.ask[arch] + signals
        )

    def advance(self, arch: int, seed: int = 0, rung: int | None = None) -> None:
        """Train a trial up to a rung, by default the next."""
        to = int(self.depth[arch, seed]) if rung is None else rung
        price = self.price(arch, seed, to)
        if price > self.left:
            raise OutOfComputeError
        self.left -= price
        self.paid[arch] += price
        self.depth[arch, seed] = to + 1
        if self._ahead:
            self._past.append(self.depth.copy())
            self.known = self._past[max(0, len(self._past) - 1 - self._ahead)]

    def look_back(self, ahead: int) -> None:
        """Let rules know from now on only what was shown `ahead` pieces ago."""
        self._ahead = ahead
        self._past = [self.depth.copy()]
        self.known = self._past[0] if ahead else self.depth

    def level(self, rung: int) -> np.ndarray:
        """Return each architecture's mean over the seeds seen at a rung; -inf: none."""
        column = TIFA + FULL.index(rung) if rung in FULL else rung
        seen = self.depth > rung
        count = seen.sum(axis=1)
        total = np.where(seen, self.world.shown[:, :, column], 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), -np.inf)

    def picked_by_score(self) -> int:
        """Return the best at the furthest rung that anybody reached."""
        return int(np.argmax(self.level(max(int(self.depth.max()) - 1, 0))))
