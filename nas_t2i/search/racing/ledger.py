"""Who was given which piece of training, and on what: ``race.jsonl`` in the study's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.errors import Where
from nas_t2i.files import check_version, json_object, record_error, repair_torn_tail, validated
from nas_t2i.logs.sealed import RunningSum, SealedLog

RACE_FILE = "race.jsonl"


class Standing(BaseModel):
    """What was believed of one architecture when a piece was decided on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    steps: int = Field(description="given to it before, all seeds together")
    reached: dict[int, int] = Field(description="seed -> the last rung that was known of it")
    best: float = Field(description="probability of being the best")
    front: float | None = Field(
        default=None,
        exclude_if=lambda share: share is None,
        description="with objectives: probability of being on the front",
    )


class Piece(BaseModel):
    """One seed of one architecture is to be trained up to a rung."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    number: int = Field(description="from 0, in the order of decision")
    name: str
    arch_id: str
    control: str = ""
    seed: int
    begin: int = Field(description="the step at which it stands")
    step: int = Field(description="the rung that it is to reach")
    why: Literal["first", "race", "finish", "control"] = Field(
        description="everyone's first rung; the rule's choice; the leader to the last rung"
    )
    known: int = Field(description="what the first so many pieces showed was known, and no more")
    table: list[Standing] = Field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """Which candidate."""
        return self.arch_id, self.control

    @property
    def steps(self) -> int:
        """Steps of training."""
        return self.step - self.begin


class Ledger:
    """The pieces of one study in order, each on the disk before anybody acts on it.

    Raises:
        RecordError: a line that is no piece, or that was changed (file, line).
        StorageError: the file can't be read or written.
    """

    def __init__(self, folder: Path | None) -> None:
        """Read what is there; without a folder nothing is written."""
        self._file = None if folder is None else folder / RACE_FILE
        self.pieces: list[Piece] = [] if self._file is None else list(read_pieces(self._file))

    def append(self, piece: Piece) -> None:
        """Add the next piece."""
        assert piece.number == len(self.pieces)
        if self._file is not None:
            with SealedLog(self._file) as log:
                log.append_line(piece.model_dump_json().encode(), durable=True)
        self.pieces.append(piece)


def read_pieces(file: Path, *, repair: bool = True) -> Sequence[Piece]:
    """Return the pieces of a race.jsonl; a line that was cut off at the end is moved aside.

    Without `repair` it is passed over: the file may be of a search under way.
    """
    if not file.exists():
        return []
    if repair:
        repair_torn_tail(file)
    running, pieces = RunningSum(), []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        body, right = running.check(line)
        if not right:
            raise record_error(
                Where(str(file), number),
                "changed since it was written, or a line before it is gone (its checksum is wrong)",
                hint="choose another --study: a race can't go on from decisions that are lost",
            )
        data = json_object(body, file, number)
        check_version(data, Where(str(file), number))
        pieces.append(validated(data, Piece, file, number))
    return pieces
