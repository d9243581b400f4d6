"""Where and with what a run happens: what a record needs so that another can repeat it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nas_t2i.errors import ConfigError
from nas_t2i.records import Environment
from nas_t2i.version import __version__

_PACKAGES = (
    "torch",
    "diffusers",
    "deepspeed",
    "fvcore",
    "optuna",
    "numpy",
    "open_clip_torch",
    "transformers",
)


def describe_environment(threads: int, accelerator: str = "none used") -> Environment:
    """Return versions, hardware and git revision; `threads` are those of one rank."""
    return Environment(
        nas_t2i=__version__,
        git_revision=_git_revision(),
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        threads=threads,
        accelerator=accelerator,
        versions={name: _version(name) for name in _PACKAGES},
    )


def cache_dir() -> Path:
    """Return the folder of things that can be made again: $NAS_T2I_CACHE, else ~/.cache/nas-t2i."""
    chosen = os.environ.get("NAS_T2I_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "nas-t2i"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_revision() -> str:
    """Return the commit of this checkout, "+changes" when it is not clean, "" outside of git."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        revision, changes = (
            subprocess.run(
                ["git", *command],  # noqa: S607  git is looked up on the user's own PATH
                cwd=here,
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return revision + ("+changes" if changes else "")


def cpu_name() -> str:
    """Return what the CPU calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def checked_device(name: str, where: str = "--device") -> str:
    """Return the name of a device of torch if it is there. Raises ConfigError, naming those.

    `where` is where it was asked for.
    """
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ConfigError(where, f"got {name!r}", expected="cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        raise ConfigError(where, f"got {name!r}", expected=f"one of {', '.join(['cpu', *found])}")
    return name


def compiles_first(device: str) -> bool:
    """Whether the next trial has to compile DeepSpeed's operator for the CPU."""
    if device != "cpu" or "TORCH_EXTENSIONS_DIR" in os.environ:
        return False
    folder = Path(sys.prefix) / "torch_extensions" / "deepspeed_shm_comm"
    return not (folder / "deepspeed_shm_comm.so").exists()
