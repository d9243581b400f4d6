"""What importing the training engine brings into a process that trials are forked from."""

import os
import subprocess
import sys

CODE = """
import sys
from pathlib import Path
from nas_t2i.search import trial
trial.share(Path("no such file"))
threads = len(list(Path("/proc/self/task").iterdir()))
print("deepspeed" in sys.modules, "mlflow" in sys.modules, threads)
"""


def test_what_trials_share_brings_neither_mlflow_nor_a_thread():
    ran = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert ran.stdout.splitlines()[-1].split() == ["True", "False", "1"]
