"""Nothing is trained twice: a study that reuses records is what it would be if it trained."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from nas_t2i.cli.main import main
from nas_t2i.events import EVENTS_FILE
from nas_t2i.records import TrialState
from nas_t2i.search.reuse.usable import USABLE_FILE
from nas_t2i.search.stopping.best_share import BestShare
from nas_t2i.search.stopping.race import Race
from tests.search.reuse.playback import Search, Silence

RULES = {
    "none": None,
    "best share": BestShare(keep=(0.6, 0.5), margin=0.5, min_peers=2),
    "race": Race(rule="race", compute=3.0, ahead=2, sure=0.999),
}


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_T2I_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def exhaustive(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Everything of the space, trained to its end."""
    return Search(tmp_path_factory.mktemp("exhaustive"), "first", trials=6).run()


def beside(exhaustive: Search, results: Path) -> Path:
    """A results folder with a copy of that study."""
    shutil.copytree(exhaustive.folder, results / exhaustive.study)
    return results


class Cut(Silence):
    """Interrupts at a rung."""

    def __init__(self, at: int) -> None:
        self.left = at

    def reached_rung(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_reused_decides_as_what_is_trained(
    rule: str, exhaustive: Search, tmp_path: Path
) -> None:
    parallel = 2 if rule == "race" else 1  # else it matters who is first
    again = Search(beside(exhaustive, tmp_path / "a"), "again", rule=RULES[rule], parallel=parallel)
    again.run()
    assert again.trained == []
    alone = again.elsewhere(tmp_path / "b").run()
    assert len(alone.trained) >= 4 and alone.told() == again.told()
    if rule != "none":
        assert any(t.state is TrialState.STOPPED for t in again.records())
    origin = again.records()[0].reused
    assert origin is not None and origin.study == "first"
    assert (again.results / origin.path / EVENTS_FILE).is_file()
    assert all(t.reused is not None and t.study == "again" for t in again.records())
    assert not any(t.reused for t in alone.records())
    first = again.said[0]
    assert first.startswith("12 complete records under this budget in first: used where this")
    assert "base seed 0: reused from first, not trained" in again.said
    assert not (alone.folder / USABLE_FILE).exists()


@pytest.mark.parametrize(
    ("rule", "at", "killed", "gone"),
    [("best share", 2, False, False), ("race", 3, True, False), ("race", 6, True, True)],
)
def test_cut_off_it_uses_what_it_began_with_whatever_lies_there_meanwhile(
    rule: str, at: int, killed: bool, gone: bool, exhaustive: Search, tmp_path: Path
) -> None:
    results = tmp_path / "a"
    some = Search(results, "some", trials=2).run()
    again = Search(results, "again", rule=RULES[rule], parallel=1)
    with pytest.raises(KeyboardInterrupt):
        again.run(Cut(at))
    if killed:  # without a word
        for file in again.folder.glob(f"trials/*/{EVENTS_FILE}"):
            lines = file.read_text().splitlines(keepends=True)
            if '"event":"end"' in lines[-1]:
                file.write_text("".join(lines[:-1]))
    beside(exhaustive, results)
    if gone:
        shutil.rmtree(some.folder)
    again.run()
    if gone:
        assert any("seed 0: not reused from some: some: no such study" in s for s in again.said)
    else:
        assert not set(some.trained) & set(again.trained)
    alone = again.elsewhere(tmp_path / "b").run()
    assert alone.told() == again.told()
    assert {t.reused.study for t in again.records() if t.reused} <= {"some"}  # not the later one
    assert any(t.reused is None for t in again.records())


def test_no_reuse_trains_all_and_on_the_way_the_rest(exhaustive: Search, tmp_path: Path) -> None:
    results = beside(exhaustive, tmp_path / "a")
    none = Search(results, "none", trials=1, reuse=False).run()
    assert len(none.trained) == 2 and not (none.folder / USABLE_FILE).exists()
    none.reuse, none.trials = True, 2  # it began without
    assert len(none.run().trained) == 4
    some = Search(results, "some", trials=1).run()
    some.reuse, some.trials = False, 2
    assert len(some.run().trained) == 2
    assert [bool(t.reused) for t in some.records()] == [True, True, False, False]


def test_a_record_that_changed_is_trained_and_said(exhaustive: Search, tmp_path: Path) -> None:
    results = beside(exhaustive, tmp_path / "a")
    again = Search(results, "again", trials=1, seeds=1)
    with pytest.raises(KeyboardInterrupt):
        again.run(Cut(1))
    again.seeds = 2
    (file,) = results.glob(f"first/trials/{again.records()[0].arch_id}-s1/{EVENTS_FILE}")
    file.write_text(file.read_text().replace('"loss":1.0', '"loss":2.0'))
    again.run()
    assert len(again.trained) == 1
    assert any("not reused from first" in s and "changed since this" in s for s in again.said)


def test_the_images_drawn_at_a_rung_come_along(exhaustive: Search, tmp_path: Path) -> None:
    results = beside(exhaustive, tmp_path / "a")
    for folder in results.glob("first/trials/*"):
        (folder / "pictures-000006.png").write_bytes(b"an image")
    again = Search(results, "again", trials=1, seeds=1).run()
    (copy,) = again.folder.glob("trials/*/pictures-000006.png")
    assert copy.read_bytes() == b"an image"


def test_whoever_wants_its_weights_is_told_where_they_are(
    exhaustive: Search, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = Search(beside(exhaustive, tmp_path / "a"), "again", trials=1, seeds=1).run()
    with pytest.raises(SystemExit):
        main(["export", str(again.folder), "--name", "base", "-o", str(tmp_path / "base")])
    error = capsys.readouterr().err
    assert "no such checkpoint; it was trained in study first (first/trials/unet-" in error


def test_records_at_a_url_are_reused(exhaustive: Search, tmp_path: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(exhaustive.folder, there / "first")
    for folder in there.glob("first/trials/*"):
        (folder / "pictures-000006.png").write_bytes(b"an image")
    again = Search(tmp_path / "root", "again", trials=1, seeds=1, url=f"file://{there}").run()
    assert again.trained == []
    (copy,) = (there / "again").glob("trials/*/pictures-000006.png")
    assert copy.read_bytes() == b"an image"
    assert (there / "again" / USABLE_FILE).is_file()
