"""What the golden tests share: frozen files, and comparisons that allow additions.

After a change that is meant, write the frozen files anew, in one process:

    NAS_T2I_REWRITE_GOLDEN=1 python -m pytest tests/golden
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REWRITE = os.environ.get("NAS_T2I_REWRITE_GOLDEN") == "1"
REPOSITORY = Path(__file__).parents[2]


def read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.is_file() else {}


def write(file: Path, data: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def frozen(file: Path, now: Any) -> Any:
    """What the file holds; on request it is written anew first."""
    if REWRITE:
        write(file, now)
    return read(file)


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Where `new` lacks or changes something of `old`; keys may be added at any depth."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{place}.{key}: removed" for key in old if key not in new]
        kept = [key for key in old if key in new]
        return gone + [d for key in kept for d in differences(old[key], new[key], f"{place}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{place}[{i}]")]
    if _same(old, new):
        return []
    return [f"{place}: {old!r} became {new!r}"]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):  # sums' last bits are the machine's
        return math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12)
    return type(old) is type(new) and old == new


def key_paths(data: Any, place: str = "") -> set[str]:
    """Dotted paths of all keys; a list's items are merged as ``[]``."""
    if isinstance(data, dict):
        here = {f"{place}.{key}".lstrip(".") for key in data}
        if place.endswith(("uncounted_ops", "versions")):  # keys of torch and of what is installed
            return set()
        below = (key_paths(value, f"{place}.{key}".lstrip(".")) for key, value in data.items())
        return here.union(*below)
    if isinstance(data, list):
        return set().union(*(key_paths(item, f"{place}[]") for item in data))
    return set()


def nas_t2i(*arguments: Any, cache: Path, status: int = 0) -> str:
    """Run the command line as a user does; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from nas_t2i.cli.main import main; main()", *map(str, arguments)],
        cwd=REPOSITORY,
        # Width: tables must not depend on the terminal. One thread: other tests run beside.
        env={**os.environ, "NAS_T2I_CACHE": str(cache), "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout
