"""Curve points of a table, as a trial would have reported them."""

from __future__ import annotations

import math

import numpy as np

from nas_t2i.benchmark.form import COSTS, Arrays, Manifest
from nas_t2i.records import CurvePoint, Estimate, Score, Signal


class Points:
    """Makes each point once. Architecture, seed and step are indices of the table's axes."""

    def __init__(self, manifest: Manifest, arrays: Arrays) -> None:
        self._manifest, self._arrays = manifest, arrays
        self._place = {metric.name: i for i, metric in enumerate(manifest.metrics)}
        self._full = {step: i for i, step in enumerate(manifest.full_steps)}
        self._parts: dict[str, dict[str, int]] = {}
        for name, index in self._place.items():
            whole, slash, part = name.partition("/")
            if slash:
                self._parts.setdefault(whole, {})[part] = index
        self._made: dict[tuple[int, int, int], CurvePoint] = {}

    def at(self, arch: int, seed: int, step: int) -> CurvePoint:
        """Return the point; what was not measured there is not in it."""
        cell = arch, seed, step
        if cell not in self._made:
            self._made[cell] = self._make(cell)
        return self._made[cell]

    def _make(self, cell: tuple[int, int, int]) -> CurvePoint:
        values: list[float] = self._arrays["value"][cell].tolist()
        known = [
            metric
            for metric in self._manifest.metrics
            if "/" not in metric.name and not math.isnan(values[self._place[metric.name]])
        ]
        return CurvePoint(
            step=self._manifest.steps[cell[2]],
            images=self._manifest.images[cell[2]],
            **{cost: values[self._place[cost]] for cost in COSTS},
            scores={m.name: self._score(m.name, cell, values) for m in known if m.kind == "score"},
            signals={
                m.name: self._signal(m.name, cell, values) for m in known if m.kind == "signal"
            },
        )

    def _score(self, name: str, cell: tuple[int, int, int], values: list[float]) -> Score:
        place = self._place[name]
        metric = self._manifest.metrics[place]
        ranked = name == self._manifest.metric
        arch, seed, step = cell
        prompts: list[float] = []
        if ranked:
            full = self._full[self._manifest.steps[step]]
            codes = self._arrays["prompt_codes"][arch, seed, full]
            prompts = self._arrays["prompt_values"][codes].tolist()
        return Score(
            metric=name,
            value=values[place],
            stderr=float(self._arrays["stderr"][(*cell, place)]),
            n=metric.n,
            chance=self._manifest.chance if ranked else None,
            by_type={
                part: values[i]
                for part, i in self._parts.get(name, {}).items()
                if not math.isnan(values[i])
            },
            signature=metric.signature,
            better=metric.better,
            per_prompt=prompts,
        )

    def _signal(self, name: str, cell: tuple[int, int, int], values: list[float]) -> Signal:
        place = self._place[name]
        metric = self._manifest.metrics[place]
        errors: list[float] = self._arrays["stderr"][cell].tolist()
        pairs = self._arrays["pairs"][(self._manifest.signals.index(name), *cell)]
        return Signal.model_validate(
            {
                "name": name,
                "value": values[place],
                "stderr": errors[place],
                "n": metric.n,
                "by_noise": {
                    band: Estimate(
                        value=values[i], stderr=None if math.isnan(errors[i]) else errors[i]
                    )
                    for band, i in self._parts.get(name, {}).items()
                    if not math.isnan(values[i])
                },
                "signature": metric.signature,
                "per_pair": [] if np.isnan(pairs).any() else pairs.tolist(),
            }
        )
