"""Why a trial failed, where it is not its architecture's fault, and whether it is tried again."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from nas_t2i.errors import PausedError
from nas_t2i.records import EndEvent, TrialState

_FAULTS = (
    ("disk", r"no space left|disk quota|read-only file system|input/output error|can't be written"),
    ("memory", r"out of memory: |out of memory(?!\?)|(can't|cannot) allocate memory|MemoryError"),
    ("device", r"CUDA error|no CUDA-capable device|uncorrectable ECC|NCCL error"),
    ("node", r"node \S+ was lost|rank \d+ was lost before it began"),
    ("lost", r"silent for|rank (\d+ )?was lost"),
    ("killed", r"killed by SIG"),
)
_LOST_NODES = 20  # that a trial outlives, whatever `retries` says: it has no part in that
# Of these, a second one in a row says that the machine is at fault, and the next trials with it.
_ADVICE = {
    "disk": "make room on the disk of {folder} ({free:.1f} GB free)",
    "device": "look after the accelerator",
}
_KERNEL = Path("/proc/vmstat")


def fault_of(reason: str) -> str:
    """Return what a failure's reason says is at fault: "" for the architecture or the program."""
    for fault, pattern in _FAULTS:
        if re.search(pattern, reason, re.IGNORECASE):
            return fault
    return ""


def failed(reason: str) -> EndEvent:
    """Return the end of a trial that failed."""
    return EndEvent(state=TrialState.FAILED, reason=reason, fault=fault_of(reason))


def kills_for_memory(file: Path = _KERNEL) -> int:
    """Return how many processes this machine's kernel has killed for their memory; 0: unknown."""
    try:
        match = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


@dataclass
class Faults:
    """Who is tried again, and when the machine is given up."""

    retries: int
    folder: Path
    _last: str = ""

    def again(self, end: EndEvent, failures: int, micro_batch: int | None) -> bool:
        """Whether a trial that failed, for the `failures`-th time, is tried again.

        Raises:
            PausedError: the same fault of the machine twice, and nothing measured in between.
        """
        if end.fault in _ADVICE and end.fault == self._last:
            free = shutil.disk_usage(self.folder).free / 1e9
            raise PausedError(
                f"paused: twice in a row a trial failed by the machine's fault ({end.reason}); "
                f"{_ADVICE[end.fault].format(folder=self.folder, free=free)}, then the same "
                "command carries on, these trials included"
            )
        self._last = end.fault
        smaller = end.fault != "memory" or micro_batch is None or micro_batch > 1
        retries = max(self.retries, _LOST_NODES) if end.fault == "node" else self.retries
        return bool(end.fault) and smaller and failures <= retries

    def measured(self) -> None:
        """Note that a trial reached a rung: the machine works."""
        self._last = ""


def is_to_be_tried(state: TrialState, fault: str, attempt: int, retries: int) -> bool:
    """Whether a resumed search starts a trial of an earlier process, as it is on record, again."""
    if state is TrialState.FAILED:
        return fault in {*_ADVICE, "node"} or (bool(fault) and attempt <= retries)
    return state in {TrialState.RUNNING, TrialState.INTERRUPTED}
