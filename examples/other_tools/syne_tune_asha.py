"""Syne Tune's ASHA on a table of learning curves: ``python syne_tune_asha.py table.npz``.

Run with syne-tune 0.16.0 (pip install syne-tune huggingface_hub). It stops by the held-out loss,
which is measured at every rung; picked is who has the best score of those trained to the end.
"""

import sys

import numpy as np
import pandas as pd
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
from syne_tune.blackbox_repository import UserBlackboxBackend
from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular
from syne_tune.config_space import choice, randint
from syne_tune.optimizer.baselines import ASHA

from nas_t2i.benchmark.table import Table

table = Table.load(sys.argv[1])
names, rungs = list(table.architectures), len(table.steps)
seconds = [table.values("seconds", s) + table.values("evaluation_seconds", s) for s in table.steps]
losses = [table.values("heldout_loss", step) for step in table.steps]
space = {"arch": choice(names), "table": choice([table.name])}  # it needs two parameters or more
blackbox = BlackboxTabular(
    hyperparameters=pd.DataFrame({"arch": names, "table": table.name}),
    configuration_space=space,
    fidelity_space={"rung": randint(1, rungs)},  # its resource counts rungs from 1
    objectives_evaluations=np.stack([losses, seconds], axis=-1).transpose(1, 2, 0, 3),
    objectives_names=["heldout_loss", "seconds"],
)
half = float(seconds[-1].mean()) * len(names) / 2  # seconds of one worker, as `benchmark` has it
regrets = []
for repeat in range(30):
    seed = repeat % len(table.seeds)
    tuner = Tuner(
        UserBlackboxBackend(blackbox, elapsed_time_attr="seconds", seed=seed),
        ASHA(space, "heldout_loss", "rung", max_t=rungs, random_seed=repeat),
        StoppingCriterion(max_wallclock_time=half / 4),
        n_workers=4,
        sleep_time=0,
        callbacks=[SimulatorCallback()],
        save_tuner=False,
    )
    tuner.run()
    seen = tuner.tuning_status.trial_rows.values()
    whole = [row["arch"] for row in seen if row.get("rung") == rungs]
    scores = {name: table.query(name, table.steps[-1], table.metric, table.seeds[seed]).value
              for name in whole}  # fmt: skip
    picked = max(scores, key=lambda name: scores[name])
    regrets.append(table.best().score - table.mean(picked))
ordered = np.sort(regrets)[len(regrets) // 4 : -(len(regrets) // 4)]
print(f"ASHA of Syne Tune: regret {ordered.mean():.4f}, interquartile mean of {len(regrets)}")
