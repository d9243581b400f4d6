"""TIFA of a study's embedded trials by kind of scene: one object, several equal ones, two, groups.

    python benchmarks/tifa_by_scene.py results/measured/comparison-embedded [STUDY_FOLDER ...]

Reads the scores of single prompts from the records; each row is a mean over seeds at the last rung.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np

from nas_t2i.data.embedded.shapes import KINDS
from nas_t2i.evaluation.embedded.prompts import make_prompts
from nas_t2i.protocol.budget import Budget
from nas_t2i.store import read_study, read_trials


def main(folders: list[str]) -> None:
    """Print one row an architecture."""
    for folder in folders:
        study = read_study(folder)
        if study.metric != "tifa":
            sys.exit(f"{folder}: got a study of the metric {study.metric!r}; expected 'tifa'")
        budget = Budget.model_validate(study.budget.data, strict=False)
        kinds = make_prompts(budget).scenes.kind
        rows: defaultdict[tuple[str, int], list[list[float]]] = defaultdict(list)
        for trial in read_trials(folder):
            if trial.curve:
                prompts = np.array(trial.curve[-1].scores["tifa"].per_prompt)
                means = [float(prompts[kinds == kind].mean()) for kind in range(len(KINDS))]
                rows[trial.name, trial.curve[-1].step].append([float(prompts.mean()), *means])
        print(f"{folder}\n{'':34}{'step':>5}{'TIFA':>7}" + "".join(f"{kind:>8}" for kind in KINDS))
        ordered = sorted(rows.items(), key=lambda row: (-row[0][1], -np.mean(row[1], axis=0)[0]))
        for (name, step), seeds in ordered:
            tifa, *means = np.mean(seeds, axis=0)
            print(f"{name:34}{step:5}{tifa:7.3f}" + "".join(f"{mean:8.3f}" for mean in means))


if __name__ == "__main__":
    main(sys.argv[1:])
