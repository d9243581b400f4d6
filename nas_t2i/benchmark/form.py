"""The file of a tabular benchmark: a NumPy archive, one JSON text and a few arrays.

An ``.npz`` file is a ZIP archive of ``.npy`` arrays. NumPy alone writes and reads it, in every
release since 2008; Parquet would need pyarrow, a dependency of 100 MB, for a table of a megabyte.
It is read with ``allow_pickle=False``. docs/benchmark.md lists what is in it. With A architectures,
S seeds, T steps (all rungs, ascending), F full ones, M metrics, P prompts, G signals and Q pairs:

===============  ==============  =====================================================
``manifest``     (bytes,)        `Manifest` as JSON, UTF-8
``value``        (A, S, T, M)    float64, NaN where a metric is not measured at a step
``stderr``       (A, S, T, M)    float64 standard errors; NaN: none
``prompt_codes`` (A, S, F, P)    uint16: which of ``prompt_values`` each prompt scored
``prompt_values`` (K,)           float64, ascending
``pairs``        (G, A, S, T, Q) float32: what each held-out pair adds to a signal
``environment``  (A, S)          int16: which of the manifest's environments it ran in
===============  ==============  =====================================================
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from nas_t2i.errors import RecordError, did_you_mean
from nas_t2i.files import record_error, write_atomically
from nas_t2i.plugins import Origin
from nas_t2i.protocol.evaluation import Better
from nas_t2i.records import BudgetUsed, Environment, Profile, SpaceUsed
from nas_t2i.untrusted.json_text import JsonError, parse_json
from nas_t2i.untrusted.regular_files import MEGABYTE, read_regular
from nas_t2i.version import __version__

TABLE_VERSION = 1
COSTS = ("loss", "training_flops", "seconds", "evaluation_seconds")  # of a CurvePoint
_FORMAT = "nas-t2i table"
_EXPECTED = "a table that `nas-t2i benchmark build` wrote"
_MOST_FILE_BYTES, _MOST_ARRAY_BYTES = 256 * MEGABYTE, 1024 * MEGABYTE
_DTYPES = {
    "manifest": "|u1",
    "value": "<f8",
    "stderr": "<f8",
    "prompt_codes": "<u2",
    "prompt_values": "<f8",
    "pairs": "<f4",
    "environment": "<i2",
}
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # so that the same studies give the same bytes

Arrays = dict[str, npt.NDArray[Any]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArchitectureEntry(_Frozen):
    """One architecture of a table."""

    name: str
    arch_id: str
    family: str
    arch: dict[str, Any] = Field(description="canonical form of the full architecture")
    trained_arch: dict[str, Any] = Field(description="canonical form of what was trained")
    profile: Profile = Field(description="of the full architecture")
    trained_profile: Profile = Field(description="of what was trained")


class MetricEntry(_Frozen):
    """One number that is on record at a rung.

    `name` is a score or a signal, or a part of one after a slash: ``tifa/color`` is TIFA on the
    questions of one element type, ``heldout_loss/0-249`` a signal over a band of time steps.
    """

    name: str
    kind: Literal["score", "signal", "cost"]
    better: Better
    unit: str
    n: int = Field(default=0, description="prompts or pairs it is the mean over; 0: none")
    signature: str = ""


class StudyEntry(_Frozen):
    """A study that the table was made of."""

    study: str
    created: AwareDatetime
    note: str


class LeftOut(_Frozen):
    """An architecture of the studies that is not in the table."""

    name: str
    arch_id: str
    why: str


class Outside(_Frozen):
    """An architecture of the space of which there need not be curves."""

    arch_id: str
    why: str


class Manifest(_Frozen):
    """Everything about a table but its numbers."""

    format: Literal["nas-t2i table"] = "nas-t2i table"
    version: int = TABLE_VERSION
    name: str
    nas_t2i: str = Field(description="version that built the table")
    space: SpaceUsed
    budget: BudgetUsed
    metric: str = Field(description="the score that is ranked by, at the last step")
    chance: float | None
    studies: list[StudyEntry]
    environments: list[Environment]
    inputs: dict[str, str] = Field(description="fingerprints of data, text encoder and codec")
    plugins: list[Origin]
    architectures: list[ArchitectureEntry]
    left_out: list[LeftOut]
    outside: list[Outside] = Field(
        default_factory=list,
        description="of the space, but beyond its limits, or of a proxy that is here already",
    )
    seeds: list[int]
    steps: list[int]
    full_steps: list[int] = Field(description="those with the ranked metric")
    images: list[int] = Field(description="training images seen, by step")
    metrics: list[MetricEntry]
    signals: list[str] = Field(description="the first axis of `pairs`")
    digest: str = Field(default="", description="sha256 over the arrays, in the order of the file")


def write_table(file: Path, manifest: Manifest, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    """Write a table, whole or not at all; return its size in bytes.

    The same manifest and arrays give the same bytes.

    Raises:
        StorageError: the file can't be written.
    """
    data = {
        name: _npy(np.ascontiguousarray(arrays[name].astype(kind)))
        for name, kind in _DTYPES.items()
        if name != "manifest"
    }
    text = manifest.model_copy(update={"digest": _digest(data)}).model_dump_json()
    data = {"manifest": _npy(np.frombuffer(text.encode(), dtype=np.uint8)), **data}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in data.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    write_atomically(file, buffer.getvalue())
    return len(buffer.getvalue())


def read_table(file: Path) -> tuple[Manifest, Arrays]:
    """Read a table.

    Raises:
        RecordError: missing, cut, damaged, of a newer release, or no table at all.
    """
    members = _members(file)
    arrays = {name: _array(file, name, members[name]) for name in _DTYPES}
    manifest = _manifest(file, arrays.pop("manifest").tobytes())
    if manifest.digest != _digest({name: members[name] for name in arrays}):
        raise record_error(str(file), "changed since it was written", hint="build or copy it again")
    names = {metric.name for metric in manifest.metrics}
    if lacking := [name for name in (manifest.metric, *COSTS) if name not in names]:
        raise record_error(f"{file}: manifest: metrics", f"without {', '.join(lacking)}")
    if manifest.steps[-1:] != manifest.full_steps[-1:] or not manifest.steps:
        raise record_error(f"{file}: manifest: steps", "the last one has no score")
    shapes = _shapes(manifest, arrays)
    for name, expected in shapes.items():
        found = arrays[name].shape
        if found != expected:
            raise record_error(
                str(file), f"{name} has the shape {found}", expected=f"{expected} by the manifest"
            )
    codes, values = arrays["prompt_codes"], arrays["prompt_values"]
    places, environments = arrays["environment"], len(manifest.environments)
    if codes.size and int(codes.max()) >= values.size:
        raise record_error(str(file), "a prompt's score that prompt_values does not have")
    if places.size and not 0 <= int(places.min()) <= int(places.max()) < environments:
        raise record_error(str(file), "an environment that the manifest does not have")
    return manifest, arrays


def _members(file: Path) -> dict[str, bytes]:
    """Return the bytes of the archive's arrays, whole by their checksums."""
    try:
        content = read_regular(file, _MOST_FILE_BYTES)
    except FileNotFoundError:
        beside = sorted(p.name for p in file.parent.iterdir()) if file.parent.is_dir() else []
        hint = did_you_mean(file.name, beside)
        raise record_error(str(file), "no such file", expected=_EXPECTED, hint=hint) from None
    except OSError as error:
        raise record_error(str(file), f"can't be read: {error.strerror}") from None
    if not content.startswith(b"PK"):
        raise record_error(str(file), "no NumPy archive (.npz)", expected=_EXPECTED)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            lacking = [name for name in _DTYPES if f"{name}.npy" not in archive.namelist()]
            if lacking:
                raise record_error(
                    str(file), f"an archive without {', '.join(lacking)}", expected=_EXPECTED
                )
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _MOST_ARRAY_BYTES:
                raise record_error(
                    str(file),
                    f"{size / MEGABYTE:,.0f} MB once unpacked",
                    expected=f"at most {_MOST_ARRAY_BYTES / MEGABYTE:,.0f} MB",
                )
            return {name: archive.read(f"{name}.npy") for name in _DTYPES}
    except RecordError:
        raise
    except Exception as error:  # zipfile and zlib raise of many kinds for bytes of others
        text = " ".join(str(error).split())
        raise record_error(
            str(file), f"damaged or cut off ({text:.80})", hint="build or copy it again"
        ) from None


def _array(file: Path, name: str, content: bytes) -> npt.NDArray[Any]:
    try:
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        text = " ".join(str(error).split())
        raise record_error(str(file), f"{name} is no array ({text:.80})") from None
    if array.dtype != np.dtype(_DTYPES[name]):
        raise record_error(
            str(file), f"{name} holds {array.dtype.str}", expected=str(_DTYPES[name])
        )
    return np.asarray(array)


def _manifest(file: Path, content: bytes) -> Manifest:
    where = f"{file}: manifest"
    try:
        data = parse_json(content)
    except JsonError as error:
        raise record_error(where, error.problem, expected=error.expected) from None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise record_error(where, "of another kind of file", expected=_EXPECTED)
    version = data.get("version")
    if isinstance(version, int) and version > TABLE_VERSION:
        raise record_error(
            where,
            f"a table of version {version}",
            expected=f"at most {TABLE_VERSION}, which this nas-t2i ({__version__}) reads",
            hint="update nas-t2i",
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise record_error(f"{where}: {place}", first["msg"]) from None


def _shapes(manifest: Manifest, arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Return what the shapes must be; how many prompts and pairs there are the arrays say."""
    cells = (len(manifest.architectures), len(manifest.seeds))
    steps, full = len(manifest.steps), len(manifest.full_steps)
    prompts = arrays["prompt_codes"].shape[-1:]
    pairs = arrays["pairs"].shape[-1:]
    numbers = (*cells, steps, len(manifest.metrics))
    return {
        "value": numbers,
        "stderr": numbers,
        "prompt_codes": (*cells, full, *prompts),
        "prompt_values": (arrays["prompt_values"].size,),
        "pairs": (len(manifest.signals), *cells, steps, *pairs),
        "environment": cells,
    }


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _digest(members: Mapping[str, bytes]) -> str:
    found = hashlib.sha256()
    for content in members.values():
        found.update(content)
    return found.hexdigest()
