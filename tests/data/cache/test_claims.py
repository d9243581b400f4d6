"""Claims on items of work: one process each, given up when a process ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas_t2i.data.cache.claims import Claims
from nas_t2i.errors import StorageError

_HOLDER = """
import sys, pathlib
from nas_t2i.data.cache.claims import Claims
with Claims(pathlib.Path(sys.argv[1])) as claims, claims.claim(3, wait=False) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_a_claim_is_held_until_its_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        with Claims(tmp_path) as claims:
            with claims.claim(3, wait=False) as mine:
                assert not mine
            with claims.claim(4, wait=False) as mine:
                assert mine
            holder.kill()
            with claims.claim(3, wait=True) as mine:
                assert mine


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    with Claims(tmp_path / "new") as claims, pytest.raises(KeyError), claims.claim(0, wait=False):
        raise KeyError
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / "new")]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"), Claims(tmp_path / "file" / "part"):
        pass
