"""Whole searches with their results at a URL; the trainers' scores are a function of their key."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nas_t2i.cli.main import main
from nas_t2i.errors import PausedError, StorageError
from nas_t2i.mirror.owner import OWNER_FILE, new_token
from nas_t2i.mirror.study import Mirror
from nas_t2i.search import session
from nas_t2i.search.resume.fetching import FetchingRunner
from nas_t2i.search.session import run_search
from nas_t2i.store import find_studies, find_study, read_contents
from tests.faults.searches import (
    Plan,
    Silence,
    hurry_on_ray,
    quick_runner,
    records,
    search,
    states,
    told,
)
from tests.mirror.conftest import broken


@dataclass(frozen=True)
class UrlPlan(Plan):
    """A search whose results are at a URL."""

    url: str = ""

    @property
    def folder(self) -> Path:
        return Mirror(self.url, "s").folder

    def request(self):
        return replace(super().request(), results_dir=self.folder.parent)

    def run(self, monkeypatch, *, rungs: int = 0, mirror: Mirror | None = None) -> list[str]:
        """Search; leave, as if killed, after so many rungs; return what was said."""
        mirror = mirror or Mirror(self.url, "s", nodes_write=self.runner != "local")
        said: list[str] = []
        mirror.say = said.append
        monkeypatch.setattr(session, "ProcessRunner", quick_runner())
        if self.runner != "local":
            hurry_on_ray(self)
        request = replace(self.request(), mirror=mirror)
        with mirror.open():
            run_search(request, lambda *_: Leaving(rungs) if rungs else Silence(), said.append)
        return said


class Leaving(Silence):
    """Who interrupts a search after some rungs."""

    def __init__(self, rungs: int) -> None:
        self.left = rungs

    def reached_rung(self, candidate, seed, point) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def wipe(tmp_path) -> None:
    """Another machine: nothing of the study is here."""
    shutil.rmtree(tmp_path / "cache/results")


def test_a_search_goes_on_where_nothing_of_it_is_but_the_url(url, tmp_path, monkeypatch):
    plan = UrlPlan(tmp_path / "a", trials=3, seeds=1, url=url)
    with pytest.raises(KeyboardInterrupt):
        plan.run(monkeypatch, rungs=7)
    wipe(tmp_path)
    plan.run(monkeypatch)
    whole = Plan(tmp_path / "b", trials=3, seeds=1)
    search(whole)
    assert records(plan) == records(whole)
    assert told(plan) == told(whole)
    assert states(plan) == states(whole)
    # What is read from the URL is the same.
    copy = find_study("s", url)
    assert copy != plan.folder
    assert read_contents(copy).trials == read_contents(plan.folder).trials
    assert not read_contents(copy).running
    assert find_studies(url) == [copy] == [find_study(f"{url}/s/")]


def test_a_folder_that_knows_less_than_the_url_is_set_aside(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/there"
    plan = UrlPlan(tmp_path / "a", trials=1, seeds=1, url=url)
    with pytest.raises(KeyboardInterrupt):
        plan.run(monkeypatch, rungs=1)
    (tmp_path / "cache").rename(tmp_path / "other")
    plan.run(monkeypatch)  # another machine
    done = records(plan)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "other").rename(tmp_path / "cache")
    said = plan.run(monkeypatch)
    assert any("was searched elsewhere since" in line for line in said)
    (aside,) = plan.folder.parent.glob("aside/s-*")
    assert (aside / "study.json").exists()
    assert records(plan) == done


def test_a_databases_study_belongs_to_the_url_and_not_to_a_cache(tmp_path, monkeypatch):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    plan = UrlPlan(
        tmp_path / "a", trials=1, seeds=1, url=f"file://{tmp_path}/there", storage=storage
    )
    with pytest.raises(KeyboardInterrupt):
        plan.run(monkeypatch, rungs=1)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "other"))
    plan.run(monkeypatch)
    (trial,) = read_contents(plan.folder).trials
    assert trial.state == "complete"


def test_what_was_not_sent_is_sent_by_the_same_command(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/there"
    plan = UrlPlan(tmp_path / "a", trials=1, seeds=1, url=url)
    mirror = Mirror(url, "s")
    monkeypatch.setattr("nas_t2i.mirror.study.FINISH_SECONDS", 0.1)
    original = mirror.place.system.put_file
    with broken(mirror.place, "put_file"):  # config.json and such; the lease stays
        said = plan.run(monkeypatch, mirror=mirror)
    assert mirror.place.system.put_file == original
    assert f"the store is away; it stays in {mirror.folder}" in mirror.unsent
    assert sum("can't be written now" in line for line in said) == 1
    assert not any("can't be" in line for line in plan.run(monkeypatch))
    assert read_contents(find_study("s", url)).trials == read_contents(plan.folder).trials


def test_two_drivers_on_one_url_are_refused(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/there"
    first = Mirror(url, "s")
    with first.open():
        with (
            pytest.raises(StorageError, match="is being searched by process"),
            Mirror(url, "s").open(),
        ):
            pass  # on this machine: the folder's lock
        monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "other"))
        with (
            pytest.raises(StorageError, match="is being searched by process"),
            Mirror(url, "s").open(),
        ):
            pass
    assert first.place.list() == {}  # nothing was begun


def test_a_driver_that_lost_its_study_pauses(tmp_path):
    mirror = Mirror(f"file://{tmp_path}/there", "s")
    with mirror.open():
        owner = json.loads(mirror.place.get(OWNER_FILE))
        mirror.place.put(OWNER_FILE, json.dumps(owner | {"token": new_token()}).encode())
        mirror._lease._thread.join(20)
        with pytest.raises(PausedError, match="taken over by process"):
            mirror.check()


def test_checkpoints_are_brought_for_the_trial_that_needs_them(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/there"
    at_url = Mirror(url, "s").place
    for step in (1, 2):
        at_url.put(f"trials/k-s0/checkpoints/step-0000000{step}/rank-0.pt", b"w")
        at_url.put(f"trials/k-s0/checkpoints/step-0000000{step}.whole", b"{}")
    at_url.put("study.json", b"{}")
    mirror = Mirror(url, "s")
    started = []

    class Trials:
        def start(self, config):
            here = mirror.folder / f"trials/{config.key}/checkpoints"
            started.append(sorted(step.name for step in here.glob("*")))

    class Config:
        key = "k-s0"

    said = []
    mirror.say = said.append
    with mirror.open():
        assert not (mirror.folder / "trials").exists()
        with broken(mirror.place, "find"):
            FetchingRunner(Trials(), mirror).start(Config())
        FetchingRunner(Trials(), mirror).start(Config())
    assert started == [[], ["step-00000001", "step-00000002"]]
    assert "trained from its beginning" in said[0]


def test_the_commands_read_from_a_url(tmp_path, monkeypatch, capsys):
    url = f"file://{tmp_path}/there"
    UrlPlan(tmp_path / "a", trials=1, seeds=1, url=url).run(monkeypatch)
    with pytest.raises(SystemExit) as end:
        main(["results", "leaderboard", "s", "--results-dir", url, "--export", "csv"])
    assert end.value.code == 0
    assert "base" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["results", "leaderboard", "t", "--results-dir", url])
    assert end.value.code == 2
    assert f"no such study under {url}/; expected one of s" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["search", "sdxl", "--results-dir", "memory://x", "--dry-run"])
    assert end.value.code == 2
    assert "a URL of an object store" in capsys.readouterr().err


def test_what_nodes_write_is_theirs_to_send_and_images_are_brought_for_the_report(tmp_path):
    url = f"file://{tmp_path}/there"
    at_url = Mirror(url, "s").place
    at_url.put("study.json", b"{}")
    for name in ("config.json", "events.jsonl", "stderr.log", "pictures-000001.png"):
        at_url.put(f"trials/k-s0/{name}", b"there")
    mirror = Mirror(url, "s", nodes_write=True)
    here = mirror.folder / "trials/k-s0"
    with mirror.open():
        assert sorted(file.name for file in here.iterdir()) == ["config.json", "events.jsonl"]
        (here / "stderr.log").write_bytes(b"here, and older")
        mirror.fetch_images()
        assert (here / "pictures-000001.png").read_bytes() == b"there"
    assert at_url.get("trials/k-s0/stderr.log") == b"there"
    assert not mirror.unsent
