"""Find the search spaces and budgets that ship with the program by their plain names."""

from __future__ import annotations

from pathlib import Path

from nas_t2i.errors import ConfigError, did_you_mean

_ROOT = Path(__file__).resolve().parent.parent  # a checkout; an installed package has its own copy


def find_file(given: str, folder: str) -> Path:
    """Return the file the user means: a path, or the name of a file shipped in `folder`.

    Raises:
        ConfigError: neither; the message names the nearest shipped file.
    """
    path = Path(given)
    if path.exists() or (len(path.parts) > 1 and path.parts[0] != folder):
        return path
    for root in (_ROOT / folder, Path(__file__).resolve().parent / folder):
        for name in (path.name, f"{path.name}.yaml"):
            if (root / name).is_file():
                return root / name
    names = sorted(file.stem for file in (_ROOT / folder).glob("*.yaml"))
    hint = did_you_mean(path.stem, names)
    raise ConfigError(
        given, "no such file", expected=f"a path or one of {', '.join(names)}", hint=hint
    )
