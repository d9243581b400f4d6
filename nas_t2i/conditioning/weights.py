"""Where frozen parts come from: local folders and files, or a hub's snapshot of them.

What is a local folder is read as it is, and the network is not asked. Weights are read from
safetensors, or from what ``torch.load`` reads without running any code of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import textwrap
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nas_t2i.errors import ConfigError, did_you_mean
from nas_t2i.files import expand_path, read_json
from nas_t2i.untrusted.regular_files import open_regular

CONFIG = "config.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
# Keys of a config that say who wrote it, not what is computed.
_PROVENANCE = ("_name_or_path", "_diffusers_version", "transformers_version", "architectures")
_PICKLED = ("*.bin", "*.ckpt", "*.pt", "*.pth")


def local_folder(model: str, revision: str | None, where: str) -> Path | None:
    """Return the local folder that `model` names, or None where it reads as a hub id.

    `where` is the key path of the setting, for messages.

    Raises:
        ConfigError: no such folder, and no hub id either; or a revision of a local folder.
    """
    path = expand_path(model, where)
    if path.is_dir():
        if revision is not None:
            raise ConfigError(
                where,
                f"got the revision {revision!r} of {model!r}, a local folder",
                expected="a revision of hub ids only",
            )
        return path
    # models/vae with a folder models: a path with a slip in it, not somebody's repository.
    beside = path.parent.is_dir() and path.parent != Path()
    if _HUB_ID.fullmatch(model) and not beside and not path.exists():
        return None
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if beside else []
    problem = f"{model!r} is a file" if path.exists() else f"no folder {str(path)!r}"
    raise ConfigError(
        where,
        problem,
        expected="a local folder or a hub id",
        hint=did_you_mean(path.name, siblings),
    )


def local_file(path: str, where: str, endings: tuple[str, ...]) -> Path:
    """Return the local file that `path` names.

    `where` is the key path of the setting, and names with `endings` are worth a hint.

    Raises:
        ConfigError: no such file.
    """
    file = expand_path(path, where)
    if not file.is_file():
        names = [p.name for p in file.parent.glob("*") if p.name.endswith(endings)]
        raise ConfigError(where, f"no file {str(file)!r}", hint=did_you_mean(file.name, names))
    return file


def fetch(model: str, revision: str | None, files: Iterable[str], where: str) -> Path:
    """Return a local folder with those of `files` (patterns) that `model` has.

    Files of a hub id come from the hub's cache on this machine where it has them.

    Raises:
        ConfigError: as `local_folder`; or the hub has no such model, or can't be reached.
    """
    folder = local_folder(model, revision, where)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(files)))
    except (OSError, ValueError, EntryNotFoundError) as error:
        at = f" at {revision!r}" if revision else ""
        raise ConfigError(
            where,
            f"no folder {model!r} here, and no such model{at} could be had from the hub "
            f"({type(error).__name__}: {one_line(error)})",
            expected="a local folder or a hub id",
        ) from None


def lasting(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the keys that say who wrote it, when and with what."""
    return {key: value for key, value in config.items() if key not in _PROVENANCE}


def weights_patterns(stem: str) -> tuple[str, ...]:
    """Return the names that a checkpoint's safetensors files may have."""
    return (
        f"{stem}.safetensors",
        f"{stem}.safetensors.index.json",
        f"{stem}-?????-of-?????.safetensors",
    )


def weights_files(folder: Path, stem: str) -> list[Path]:
    """Return the whole safetensors files of a checkpoint: ``stem.safetensors`` or its shards.

    Raises:
        ConfigError: there are none, one is missing, or one is cut short.
    """
    single = folder / f"{stem}.safetensors"
    index = folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = _shards(index)
    else:
        raise _no_weights(folder, single.name)
    for file in files:
        _check_safetensors(file)
    return files


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ConfigError(str(index), "no weight_map", expected="tensors and their files")
    files = []
    for name in sorted({str(name) for name in names.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ConfigError(str(index), f"got the file {name!r}", expected="a name beside it")
        files.append(index.parent / name)
    return files


def _no_weights(folder: Path, expected: str) -> ConfigError:
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    problem = f"no {expected}"
    if pickled:
        problem += f", only {pickled[0]}, a pickle, which is not read"
    hint = "save the model again with save_pretrained, which writes safetensors" if pickled else ""
    return ConfigError(str(folder), problem, expected="weights in safetensors", hint=hint)


def _check_safetensors(file: Path) -> None:
    """Raise ConfigError where a file is missing or is not whole: its header tells its length."""
    try:
        os.close(open_regular(file))
        with safe_open(file, framework="pt"):
            pass
    except FileNotFoundError:
        raise ConfigError(str(file), "no such file") from None
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            str(file),
            f"not a whole safetensors file ({one_line(error)})",
            hint="copy or download it again",
        ) from None


def read_tensors(file: Path, wanted: Callable[[set[str]], Iterable[str]]) -> dict[str, Tensor]:
    """Return those tensors of a weights file that `wanted` picks of all their names.

    What is not picked is not read, or is let go of at once. A ``.pt`` file may hold the tensors
    themselves or, as a training script's checkpoint, have them under ``state_dict``.

    Raises:
        ConfigError: the file is missing, cut short, or holds more than plain tensors.
    """
    if file.suffix == ".safetensors":
        _check_safetensors(file)
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in wanted(set(tensors.keys()))}
    state = _load_plain(file)
    return {name: state[name] for name in wanted(set(state))}


def _load_plain(file: Path) -> dict[str, Tensor]:
    try:
        os.close(open_regular(file))
        # Mapped, only the tensors that are used are read from the disk.
        mapped = zipfile.is_zipfile(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise ConfigError(str(file), "no such file") from None
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise ConfigError(
            str(file),
            f"can't be read as plain weights ({type(error).__name__})",
            expected="a whole state dict; other objects, TorchScript too, are not loaded",
        ) from None
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise ConfigError(str(file), f"got a {type(loaded).__name__}", expected="a state dict")
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def digest_of(file: Path) -> str:
    """Return the sha256 of a file, kept in memory for as long as its size and time stand."""
    status = file.stat()
    return _digest(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint_of(name: str, facts: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Return `name` and a hash of `facts` (plain data) and of the files' bytes.

    The files count by name and bytes, not by where they lie.
    """
    whole = [facts, [[file.name, digest_of(file)] for file in files]]
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def by(shape: torch.Size) -> str:
    """Return a shape in words: ``3 x 4``."""
    return " x ".join(map(str, shape)) or "a scalar"


def one_line(error: BaseException) -> str:
    """Return a library's message, shortened, to go into one of ours."""
    return textwrap.shorten(str(error), 200, placeholder=" ...") or "no reason given"
