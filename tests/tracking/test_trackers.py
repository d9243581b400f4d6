"""What trackers hold of a study, read back by the real packages, against its records."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nas_t2i import plugins
from nas_t2i.contracts import check
from nas_t2i.records import EndEvent, ProgressEvent, RungEvent, TrialRecord, TrialState
from nas_t2i.tracking.follow import Feed, send
from nas_t2i.tracking.rows import trial_run
from tests.results.record_factory import beside, score, signals_of, study, trial
from tests.tracking import readers
from tests.tracking.written import LINES, WrittenStudy, start

ARCH = {"family": "unet", "channels": 320, "transformer_depth": [0, 2, 10]}
FID = score([0.0, 0.0], metric="fid", value=123.5, stderr=2.0, by_type={}, better="smaller")
MLFLOW_WARNS = (  # its own use of SQLAlchemy, and connections that it leaves to the collector
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)
TRACKERS = ["tensorboard", "wandb", pytest.param("mlflow", marks=MLFLOW_WARNS)]


def made(name: str, scores: dict[int, float], seed: int = 0, **changes) -> TrialRecord:
    """A trial with everything: a signal, an additional metric at the last rung, accuracies."""
    record = beside(trial(name, scores, seed=seed, arch=ARCH, **changes), FID, step=200)
    curve = [p.model_copy(update={"signals": signals_of(1 / p.step)}) for p in record.curve]
    return record.model_copy(update={"curve": curve})


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's, which takes it seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def where(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """WHERE of each tracker, which is offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    return {"mlflow": database, "tensorboard": str(tmp_path / "tb"), "wandb": "a-project"}


def held(name: str, where: dict[str, str]) -> dict[str, readers.Held]:
    return getattr(readers, name)("." if name == "wandb" else where[name])


def send_to(name: str, search: WrittenStudy, where: dict[str, str]) -> None:
    tracker = plugins.find("trackers", name).cls(where[name])
    tracker.check()
    send([Feed(name, tracker, search.folder)])


@pytest.mark.parametrize("name", TRACKERS)
def test_what_is_on_record_arrives_once_however_often_it_is_sent(
    name: str, where: dict[str, str], tmp_path: Path
) -> None:
    a = made("A/x", {100: 0.4, 200: 0.5}, arch_id="unet-a")
    b = made("B", {100: 0.3}, seed=1, arch_id="unet-b", state=TrialState.STOPPED)
    search = WrittenStudy(tmp_path / "study", a, b)
    search.append(a, ProgressEvent(step=60, loss=0.75, seconds=1.5))
    search.reach(a, 100)
    search.append(a, ProgressEvent(step=150, loss=0.5, seconds=2.5))
    search.reach(b, 100)
    search.append(b, EndEvent(state=TrialState.STOPPED, reason="outside of the best half"))
    send_to(name, search, where)
    send_to(name, search, where)
    assert held(name, where)[_run(name, "A/x seed 0")].state == ""

    # The trial was killed after step 150, and its next process stood at 100 again.
    search.append(a, start(a), RungEvent(point=a.curve[0]))
    search.append(a, ProgressEvent(step=140, loss=9.0, seconds=2.0))
    search.append(a, ProgressEvent(step=160, loss=math.nan, seconds=2.75))
    search.append(a, ProgressEvent(step=200, loss=9.0, seconds=2.75))  # the rung's own step
    search.reach(a, 200)
    search.append(a, EndEvent(state=TrialState.COMPLETE))
    for _ in range(2):
        send_to(name, search, where)

    found = held(name, where)
    assert len(found) == 4  # two trials; the search, and the search by compute
    run = found[_run(name, "A/x seed 0")]
    assert run.state == "complete"
    first, last = a.curve
    _same(run.values["scores/tifa"], [(p.step, p.scores["tifa"].value) for p in a.curve])
    _same(run.values["scores/tifa_stderr"], [(p.step, p.scores["tifa"].stderr) for p in a.curve])
    _same(run.values["scores/fid"], [(200, 123.5)])
    _same(run.values["tifa_by_type/counting"], [(100, 0.5), (200, 0.5)])
    _same(run.values["signals/heldout_loss"], [(100, 1 / 100), (200, 1 / 200)])
    _same(run.values["signals/text_gain"], [(100, 1 - 1 / 100), (200, 1 - 1 / 200)])
    _same(run.values["training/flops"], [(p.step, p.training_flops) for p in a.curve])
    between = [(60, 0.75), (100, first.loss), (150, 0.5), (160, math.nan), (200, last.loss)]
    _same(run.values["training/loss"], between)
    assert run.images == {"samples": [100, 200]}
    depth = "transformer_depth.4" if name == "mlflow" else "transformer_depth[4]"
    params = {"channels": 320, depth: 10, "params": 500_000_000, "gmacs": 100.0, "seed": 0}
    assert {key: float(run.params[key]) for key in params} == params
    assert (run.params["architecture"], run.params["control"]) == ("A/x", "none")

    other = found[_run(name, "B seed 1")]
    assert other.state == "stopped: outside of the best half"
    assert [step for step, _ in other.values["scores/tifa"]] == [100]
    best = last.scores["tifa"].value
    _same(found["search"].values["search/trials"], [(1, 1.0), (2, 2.0), (3, 2.0)])
    _same(found["search"].values["search/best_score"], [(3, best)])
    compute = last.training_flops + b.curve[0].training_flops
    _same(found["search"].values["search/training_flops"][-1:], [(3, compute)])
    by_compute = found[_run(name, "search by compute")].values["search/best_score"]
    _same(by_compute, [(round(compute / 1e9), best)])


def _run(name: str, run: str) -> str:
    """What a reader calls a run: TensorBoard's runs are folders."""
    return run.replace("/", "_").replace(" ", "_") if name == "tensorboard" else run


def _same(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    assert [step for step, _ in found] == [step for step, _ in expected]
    values = [value for _, value in found]
    assert values == pytest.approx([v for _, v in expected], rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", TRACKERS)
def test_built_in_trackers_keep_their_contract(name: str, where: dict[str, str]) -> None:
    found = check(plugins.find("trackers", name), {"where": where[name]})
    assert len(found) == 5
    assert [f"{what}: {problem}" for what, problem in found if problem] == []


def test_a_tracker_is_no_part_of_records(tmp_path: Path) -> None:
    """Else a study would not go on without the one it began with."""
    (tmp_path / "own.py").write_text(LINES)
    plugin = plugins.find("trackers", "own:Lines", tmp_path)
    assert plugin.origin is not None and plugins.used() == []


def test_two_studies_of_one_name_are_two() -> None:
    one = study("demo")
    other = one.model_copy(update={"created": one.created.replace(year=2027)})
    records = (trial("..", arch_id="unet-a"), trial("B"))
    runs = [trial_run(s, record) for s in (one, other) for record in records]
    assert len({run.key for run in runs}) == 4
    for run in runs:
        assert "/" not in run.file_name and not run.file_name.startswith(".")
