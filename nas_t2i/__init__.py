"""Which denoising backbone should I train? Search, profile and rank text-to-image backbones early.

From Python, what the commands do is a function each: see docs/python.md. They are loaded when they
are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas_t2i.version import __version__

if TYPE_CHECKING:
    from nas_t2i.api import (
        Results,
        evaluate,
        load_budget,
        load_results,
        load_space,
        load_table,
        profile,
        search,
    )
    from nas_t2i.benchmark.table import Table

__all__ = [
    "Results",
    "Table",
    "__version__",
    "evaluate",
    "load_budget",
    "load_results",
    "load_space",
    "load_table",
    "profile",
    "search",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("nas_t2i.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
