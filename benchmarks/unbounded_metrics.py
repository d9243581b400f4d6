"""Intervals of metrics without bounds, held against a seed that they did not see.

Of every committed study with two seeds an architecture, one seed is ranked by each signal as if it
were the metric, and the other one is looked up: how often its final lies within the 95 % interval
of the expected score, and how wide the interval is against the spread between architectures. A
seed scatters around what is expected of it, so an honest interval holds somewhat fewer than 95 %.

    python benchmarks/unbounded_metrics.py
"""

from __future__ import annotations

import numpy as np

from nas_t2i.results.entries import with_one_metric
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.store import find_study, read_contents

STUDIES = ("sdxl-exhaustive", "comparison-embedded", "sizes-embedded")
SIGNALS = ("heldout_loss", "text_gain", "caption_gain")


def main() -> None:
    """Print a line a study and signal."""
    print(f"{'study':22}{'ranked by':15}{'finals':>7}{'inside':>8}{'width / spread':>16}")
    for name in STUDIES:
        contents = read_contents(find_study(name, "results/measured"))
        trials = [trial for trial in contents.trials if not trial.control and trial.curve]
        for signal in SIGNALS:
            scored = with_one_metric(trials, signal)
            inside, widths = [], []
            finals = {(t.arch_id, t.seed): t.curve[-1].scores[signal].value for t in scored}
            for seed in (0, 1):
                for row in rank_trials(trial for trial in scored if trial.seed == seed):
                    other = finals.get((row.arch_id, 1 - seed))
                    if other is None or row.expected_low is None or row.expected_high is None:
                        continue
                    inside.append(row.expected_low <= other <= row.expected_high)
                    widths.append(row.expected_high - row.expected_low)
            spread = np.std(list(finals.values()))
            print(
                f"{name:22}{signal:15}{len(inside):7}{np.mean(inside):8.2f}"
                f"{np.mean(widths) / spread:16.1f}"
            )


if __name__ == "__main__":
    main()
