"""A PostgreSQL server of its own that goes away in the middle of a search."""

import gc
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from nas_t2i.search.resume.rung_log import RUNGS_FILE
from tests.faults.searches import Plan, start
from tests.faults.test_campaign import assert_like_one_left_alone

pytestmark = pytest.mark.postgres


def _folder_of(program: str) -> Path:
    found = shutil.which(program)
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if not found and not debian:
        pytest.skip(f"no {program} here")
    return Path(found).parent if found else debian[-1].parent


class Server:
    """A server in a folder, on a port of its own; as user postgres where this is root's process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._bin, self._folder = _folder_of("initdb"), folder
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self._control("start", "-l", self._folder / "log", "-o", options)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-w", *arguments)

    def _run(self, program: str, *arguments) -> None:
        command = [str(self._bin / program), *map(str, arguments)]
        user = self._user if os.getuid() == 0 else None
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")


@pytest.fixture
def server():
    folder = Path(tempfile.mkdtemp())  # a short path, as a socket's must be
    folder.chmod(0o755)
    server = Server(folder)
    yield server
    with warnings.catch_warnings():
        # Optuna leaves the connections of its pool to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    server.stop()
    shutil.rmtree(folder)


def in_the_middle(plan: Plan, process) -> None:
    """Wait until a search that was started has decided something."""
    deadline = time.monotonic() + 120
    file = plan.folder / RUNGS_FILE
    while not file.exists() or file.read_text().count("decided") < 3:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)


def said(plan: Plan) -> list[str]:
    return (plan.root / "said").read_text().splitlines()


def test_a_server_that_stops_and_comes_back_is_waited_for(server, tmp_path):
    plan = Plan(tmp_path / "cut", trials=6, storage=server.url)
    plan.root.mkdir()
    process = start(plan)
    in_the_middle(plan, process)
    server.stop()
    time.sleep(3)
    server.start()
    process.join(200)
    assert process.exitcode == 0
    lines = [line for line in said(plan) if line.startswith("storage ")]
    assert len(lines) == 2, lines  # it is said once, and once that it is over
    assert "trying again for 10 minutes" in lines[0] and "answers again" in lines[1]
    assert_like_one_left_alone(plan, tmp_path)


def test_a_server_that_stays_away_ends_the_search_in_a_line_and_loses_nothing(server, tmp_path):
    plan = Plan(tmp_path / "cut", trials=6, storage=server.url, wait_minutes=0.05)
    plan.root.mkdir()
    process = start(plan)
    in_the_middle(plan, process)
    server.stop()
    process.join(200)
    assert process.exitcode == 2
    (line,) = (plan.root / "error").read_text().splitlines()
    assert "no answer for" in line and "all records are saved in the study's folder" in line
    assert "connection" in line, line  # what the driver says, not what Optuna makes of it
    server.start()
    process = start(plan)
    process.join(200)
    assert process.exitcode == 0
    assert_like_one_left_alone(plan, tmp_path)
