"""The search: who is tried, how trials run, and when one is stopped."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Search(ModuleType):
    """This package can be called: `nas_t2i.search(...)` is the function of that name, too.

    Importing a module of the package puts the package in the place of the function.
    """

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Search; see `nas_t2i.api.search`."""
        return importlib.import_module("nas_t2i.api").search(*args, **keywords)


sys.modules[__name__].__class__ = _Search
