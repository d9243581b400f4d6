"""Files written whole or not at all, and read with the place of what is wrong in them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from nas_t2i.errors import ConfigError, RecordError, StorageError, Where
from nas_t2i.records import RECORD_VERSION
from nas_t2i.untrusted.json_text import JsonError, parse_json
from nas_t2i.untrusted.regular_files import MEGABYTE, read_regular
from nas_t2i.version import __version__

if TYPE_CHECKING:
    from nas_t2i.yaml_files import Document

ModelT = TypeVar("ModelT", bound=BaseModel)
_MOST_JSON_BYTES = 16 * MEGABYTE  # of a configuration; the largest known has under 100 kB
_MOST_LOCATED_CHARACTERS = 200_000  # beyond, looking for the place of a mistake takes seconds


class Closing(ABC):
    """Something that a ``with`` block closes at its end, whatever happened in it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_atomically(file: str | Path, content: str | bytes) -> None:
    """Write a whole file or nothing: beside it first, then renamed over it.

    Raises:
        StorageError: the folder is missing, not writable, or the disk is full.
    """
    file = Path(file)
    data = content.encode() if isinstance(content, str) else content
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o666 & ~_umask())  # mkstemp's files are private
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{file}: can't be written: {error.strerror}") from None


def write_json(file: str | Path, data: BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write a record or plain data as indented JSON, atomically. Raises StorageError."""
    if isinstance(data, BaseModel):
        text = data.model_dump_json(indent=2)
    else:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(file, text + "\n")


def repair_torn_tail(file: str | Path) -> str:
    """End the last line of a file of JSON lines: move what is torn of it to ``FILE.torn``.

    Returns what was done, in words, or "" where there was nothing to do. Only for a file that
    nobody is writing: what looks torn may be a line on its way.

    Raises:
        StorageError: the file can't be read or written.
    """
    file = Path(file)
    torn_file = Path(f"{file}.torn")
    try:
        if not file.exists():
            return ""
        with file.open("r+b") as stream:
            content = stream.read()
            start = content.rfind(b"\n") + 1
            tail = content[start:]
            if not tail:
                return ""
            if is_json(tail):
                stream.write(b"\n")
                return ""
            # Kept beside the file and on the disk before it is cut off here.
            with torn_file.open("ab") as torn:
                torn.write(tail + b"\n")
                torn.flush()
                os.fsync(torn.fileno())
            stream.truncate(start)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StorageError(f"{file}: can't be repaired: {error.strerror}") from None
    line = content.count(b"\n") + 1
    return f"{file}:{line}: an interrupted write left {len(tail)} bytes, moved to {torn_file.name}"


def expand_path(path: str, where: Where | str) -> Path:
    """Expand ``~``, ``$NAME`` and ``${NAME}`` in a path from a file; relative ones stay so.

    Raises:
        ConfigError: a $NAME that is not set; `where` is the place the path came from.
    """
    return Path(expand_variables(path, where)).expanduser()


def expand_variables(text: str, where: Where | str) -> str:
    """Expand ``$NAME`` and ``${NAME}``.

    Raises:
        ConfigError: a $NAME that is not set; `where` is the place the text came from.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ConfigError(where, f"got {text!r}, but ${name} is not set")
        return os.environ[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, text)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: can't be made: {error.strerror}") from None


def read_bytes(file: Path) -> bytes:
    """Read a whole file. Raises RecordError."""
    try:
        return read_regular(file)
    except FileNotFoundError:
        raise record_error(str(file), "no such file", expected="a study's folder") from None
    except OSError as error:
        raise record_error(str(file), f"can't be read: {error.strerror}") from None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ConfigError with the place of what is wrong."""
    data = _json_value(file)
    if not isinstance(data, dict):
        raise ConfigError(str(file), f"got {data!r:.60}", expected="a JSON object")
    return data


def _json_value(file: Path) -> Any:
    try:
        return parse_json(read_regular(file, _MOST_JSON_BYTES))
    except FileNotFoundError:
        raise ConfigError(str(file), "no such file") from None
    except OSError as error:
        raise ConfigError(str(file), f"can't be read: {error.strerror}") from None
    except JsonError as error:
        raise ConfigError(
            Where(str(file), error.line, error.column), error.problem, expected=error.expected
        ) from None


def json_list(file: Path) -> list[Any]:
    """Read a JSON list. Raises ConfigError with the place of what is wrong."""
    data = _json_value(file)
    if not isinstance(data, list):
        raise ConfigError(str(file), f"got {data!r:.60}", expected="a JSON list")
    return data


def json_object(content: bytes, file: Path, first_line: int = 1) -> dict[str, Any]:
    """Parse one JSON object; `first_line` is the line of the file that `content` starts on."""
    try:
        data = parse_json(content)
    except JsonError as error:
        raise record_error(
            Where(str(file), first_line + error.line - 1, error.column),
            error.problem,
            expected=error.expected or "one JSON object",
        ) from None
    if not isinstance(data, dict):
        raise record_error(
            Where(str(file), first_line, 1), f"got {data!r:.60}", expected="one JSON object"
        )
    return data


def check_version(data: dict[str, Any], where: Where) -> None:
    """Raise RecordError for a record that a newer release wrote."""
    version = data.get("version")
    if isinstance(version, int) and version > RECORD_VERSION:
        raise record_error(
            where,
            f"a record of version {version}",
            expected=f"at most {RECORD_VERSION}, which this nas-t2i ({__version__}) reads",
            hint="update nas-t2i",
        )


def validated(
    data: dict[str, Any], model: type[ModelT], file: Path, line: int | None = None
) -> ModelT:
    """Validate one JSON object; `line` is its line in a file of many, None for a whole file."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # Only a bad record pays for the reader that knows every key's place: JSON is YAML too.
        from nas_t2i.yaml_files import config_error

        raise RecordError(str(config_error(_located(data, file, line), model, error))) from None


def read_record(file: Path, model: type[ModelT]) -> ModelT:
    """Read a file that is one record.

    Raises:
        RecordError: missing, cut, malformed, or of a newer version (file, line, column).
    """
    data = json_object(read_bytes(file), file)
    check_version(data, Where(str(file)))
    return validated(data, model, file)


def _located(data: dict[str, Any], file: Path, line: int | None) -> Document:
    """Return data with the places of its values, as far as they can be had in little time."""
    from nas_t2i.yaml_files import Document, parse_document

    text = read_bytes(file).decode("utf-8")
    if line is not None:
        text = text.split("\n")[line - 1]
    if len(text) > _MOST_LOCATED_CHARACTERS:
        return Document(str(file), data, {(): (line or 1, 1)})
    try:
        document = parse_document(text, str(file))
    except ConfigError:  # what JSON allows and YAML does not: a key twice, a control character
        return Document(str(file), data, {(): (line or 1, 1)})
    places = {
        key: (row + (line or 1) - 1, column) for key, (row, column) in document.positions.items()
    }
    return Document(str(file), document.data, places)


def record_error(
    where: Where | str, problem: str, *, expected: str = "", hint: str = ""
) -> RecordError:
    """Word a RecordError exactly as the errors of the files that people write."""
    return RecordError(str(ConfigError(where, problem, expected=expected, hint=hint)))


def is_json(content: bytes) -> bool:
    """Whether that is one whole JSON value."""
    try:
        parse_json(content)
    except JsonError:
        return False
    return True


def _umask() -> int:
    # There is no way to read it without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
