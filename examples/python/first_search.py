"""A search from Python: a small space under the embedded budget, cut down to seconds.

    python examples/python/first_search.py [FOLDER]

Without pandas (pip install 'nas-t2i[pandas]') the rows are printed instead of the data frame.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nas_t2i
from nas_t2i.errors import MissingExtraError

SPACE = """
name: first
family: unet
parameters:
  channels: {choice: [128, 192]}
  channel_mult: [1, 2]
  transformer_depth: [0, 2]
"""


def main(folder: Path) -> None:
    """Profile, search, and read the results back."""
    small = nas_t2i.profile("family=unet,channels=128,channel_mult=[1,2],transformer_depth=[0,2]")
    print(f"{small.name}: {small.params:,} parameters, {small.gmacs:.1f} GMACs")

    file = folder / "first.yaml"
    file.write_text(SPACE)
    budget = nas_t2i.load_budget("embedded")
    # Six steps teach nothing: for a ranking to be believed, take the budget as it is.
    training = budget.training.model_copy(update={"steps": 6})
    evaluation = budget.evaluation.model_copy(update={"prompts": 16})
    quick = budget.model_copy(
        update={
            "name": "quick",
            "training": training,
            "evaluation": evaluation,
            "rungs": (3, 6),
        }
    )
    results = nas_t2i.search(
        file,
        quick,
        results_dir=folder / "results",
        trials=2,
        seeds_per_architecture=1,
        early_stopping=None,
        say=print,
    )
    best = results.leaderboard()[0]
    print(f"best of {results!r}: {best.name}, TIFA {best.score:.3f} +/- {best.score_stderr:.3f}")
    try:
        frame = results.to_pandas()
    except MissingExtraError as error:
        print(error)
    else:
        print(
            frame[["rank", "name", "score", "params", "gmacs", "channels"]].to_string(index=False)
        )


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "."))
