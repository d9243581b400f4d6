import gc
import os
import uuid
import warnings

import pytest
import sqlalchemy

from nas_t2i.errors import MissingExtraError, StorageError, UserError
from nas_t2i.records import BudgetUsed, EndEvent, TrialState
from nas_t2i.search.study import OptunaStudy, Outcome
from tests.results.record_factory import study


def open_study(url: str, *, seed: int = 0, sampler: str = "tpe", **options) -> OptunaStudy:
    notes: list[str] = []
    study = OptunaStudy(
        "s", url, seed=seed, sampler=sampler, sampler_options=options, warn=notes.append
    )
    study.notes = notes  # type: ignore[attr-defined]
    return study


def draw(chooser) -> tuple[object, ...]:
    return tuple(chooser.choose(name, (1, 2, 3, 4, 5)) for name in ("a", "b"))


@pytest.fixture(
    params=["journal", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def url(request, tmp_path):
    """Every storage must keep the same promises.

    PostgreSQL: a database each, on the server $NAS_T2I_TEST_POSTGRES (a URL without a database).
    """
    if request.param == "journal":
        yield f"journal:{tmp_path / 'study.journal'}"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'study.db'}"
    else:
        server = os.environ["NAS_T2I_TEST_POSTGRES"]
        name = f"nas_t2i_{uuid.uuid4().hex}"
        engine = sqlalchemy.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
            yield f"{server}/{name}"
            with warnings.catch_warnings():
                # Optuna leaves the connections of its pool to the garbage collector.
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def complete(labels) -> Outcome:
    return Outcome("complete", float(sum(labels)), {1: sum(labels) / 10})


def run(study: OptunaStudy, count: int) -> list[tuple[object, ...]]:
    seen = []
    for _ in range(count):
        draft = study.draft(draw)
        number = study.keep(draft)
        study.agree(number, complete(draft.made))
        seen.append(draft.made)
    return seen


def test_a_resumed_study_proposes_what_an_uninterrupted_one_does(url, tmp_path):
    whole = run(open_study(f"journal:{tmp_path / 'other.journal'}"), 14)
    parts = run(open_study(url), 5) + run(open_study(url), 9)
    assert parts == whole
    assert len(set(parts)) > 5  # and not the same five again


def test_another_seed_proposes_otherwise(tmp_path):
    first = run(open_study(f"journal:{tmp_path / 'a.journal'}", seed=0), 6)
    second = run(open_study(f"journal:{tmp_path / 'b.journal'}", seed=1), 6)
    assert first != second


def test_a_named_point_is_proposed_and_held_whole(url):
    study = open_study(url)
    draft = study.draft(draw, {"a": 4, "b": 2})
    assert draft.made == (4, 2) and study.count() == 0
    assert study.keep(draft, name="x", arch={"family": "unet"}) == 0
    (known,) = open_study(url).known_trials()
    assert (known.number, known.finished) == (0, False)
    assert known.attributes == {"name": "x", "arch": {"family": "unet"}}


def held(study, number):
    trial = study._trials()[number]
    return trial.state.name, trial.value, trial.intermediate_values


def test_what_an_open_trial_holds_is_brought_in_line_whatever_it_was(url):
    study = open_study(url)
    number = study.keep(study.draft(draw))
    assert study.agree(number, Outcome("running", None, {1: 0.25})) == number
    again = open_study(url)
    assert again.agree(number, Outcome("running", None, {1: 0.5, 2: 0.75})) == number
    assert again.agree(number, Outcome("stopped", None, {1: 0.5, 2: 0.75})) == number
    for _ in range(2):  # a second word changes nothing
        assert again.agree(number, Outcome("stopped", None, {1: 0.5, 2: 0.75})) == number
    assert held(again, number) == ("PRUNED", 0.75, {1: 0.5, 2: 0.75})
    assert again.count() == 1


def test_a_finished_trial_that_holds_something_else_is_stood_for_by_another(url, tmp_path):
    study = open_study(url)
    draft = study.draft(draw)
    number = study.keep(draft, name="x", arch={})
    study.agree(number, Outcome("failed", None, {}))
    assert study.agree(number, Outcome("running", None, {1: 0.5})) == number  # tried again
    new = study.agree(number, Outcome("complete", 0.7, {1: 0.5, 2: 0.7}))
    assert (new, study.place_of(number)) == (1, 1)
    assert [trial.number for trial in study.known_trials()] == [1]
    assert study.agree(new, Outcome("complete", 0.7, {1: 0.5, 2: 0.7})) == new
    assert held(study, new) == ("COMPLETE", 0.7, {1: 0.5, 2: 0.7})
    assert study._trials()[new].params == draft.trial.params
    # It is no proposal: those after it are what they would have been.
    other = open_study(f"journal:{tmp_path / 'other.journal'}")
    other.agree(other.keep(other.draft(draw)), Outcome("complete", 0.7, {1: 0.5, 2: 0.7}))
    assert study.draft(draw).made == other.draft(draw).made


def test_what_decode_cannot_use_is_a_draft_with_a_problem(url):
    study = open_study(url)

    def refuse(_):
        raise StorageError("no such architecture")

    draft = study.draft(refuse)
    assert draft.problem == "no such architecture"
    study.refuse(draft, draft.problem)
    assert held(study, 0)[0] == "FAIL"


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2", "qmc"])
def test_every_sampler_draws_drafts(sampler, tmp_path):
    pytest.importorskip("scipy")
    options = {"n_startup_trials": 3} if sampler in ("tpe", "gp") else {}
    study = open_study(f"journal:{tmp_path / 's.journal'}", sampler=sampler, **options)
    assert len(run(study, 5)) == 5


def test_an_answer_that_was_lost_makes_no_second_trial(url, monkeypatch):
    study = open_study(url)
    create = study._storage.create_new_trial

    def answer_is_lost(*args, **kwargs):
        create(*args, **kwargs)
        monkeypatch.undo()
        raise ConnectionResetError("gone")

    monkeypatch.setattr("nas_t2i.search.storage._FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(study._storage, "create_new_trial", answer_is_lost)
    assert study.keep(study.draft(draw)) == 0
    assert study.count() == 1


def test_a_storage_that_is_away_is_waited_for_said_once_and_then_left_in_a_line(
    tmp_path, monkeypatch
):
    study = open_study(f"sqlite:///{tmp_path / 'study.db'}")
    monkeypatch.setattr("nas_t2i.search.storage._FIRST_PAUSE_SECONDS", 0.01)
    tries = []

    def away(*_, **__):
        tries.append(None)
        if len(tries) < 4:
            raise sqlalchemy.exc.OperationalError("SELECT 1", None, Exception("server closed"))
        return []

    with monkeypatch.context() as patch:
        patch.setattr(study, "_trials", away)
        assert study.count() == 0
        assert len(study.notes) == 2
        assert "server closed; trying again for 10 minutes" in study.notes[0]
        assert study.notes[1].endswith("answers again")
    study.patience._minutes = 0.05 / 60
    monkeypatch.setattr(study, "_trials", lambda: tries.clear() or away())
    with pytest.raises(StorageError, match=r"no answer for .*the same command carries on"):
        study.count()
    assert len(study.notes) == 3


def test_a_lock_that_a_killed_process_left_on_an_own_journal_is_removed_and_said(tmp_path):
    path = tmp_path / "study.journal"
    run(open_study(f"journal:{path}"), 1)
    lock = tmp_path / "study.journal.lock"
    lock.symlink_to(path)
    notes: list[str] = []
    study = OptunaStudy(
        "s",
        f"journal:{path}",
        seed=0,
        sampler="tpe",
        sampler_options={},
        own=True,
        warn=notes.append,
    )
    assert notes == [f"{lock}: left by a process that was killed; removed"]
    assert study.count() == 1


def test_a_lock_on_a_shared_journal_is_waited_for_aloud(tmp_path, monkeypatch):
    path = tmp_path / "study.journal"
    run(open_study(f"journal:{path}"), 1)
    (tmp_path / "study.journal.lock").symlink_to(path)
    monkeypatch.setattr("nas_t2i.search.storage._GRACE_SECONDS", 3)
    study = open_study(f"journal:{path}")
    assert "study.journal.lock: another process writes the journal, or left this" in study.notes[0]


def test_a_journal_cut_in_a_line_is_repaired_and_nothing_whole_is_lost(tmp_path):
    path = tmp_path / "study.journal"
    run(open_study(f"journal:{path}"), 3)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-30:-10])
    study = open_study(f"journal:{path}")
    assert study.count() == 3
    assert "study.journal:" in study.notes[0] and ".torn" in study.notes[0]
    run(study, 1)
    assert open_study(f"journal:{path}").count() == 4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "journal:3:101: lists or mappings nested too deeply"),
        (b'{"op_code": ' + b"9" * 100_000 + b"}", "journal:3:13: a number of 100000 digits"),
        (b"[1]", "journal:3:1: got [1]; expected one JSON object"),
        (b'{"op_code": 44}', "journal:3:1: op_code: got 44; expected one of Optuna's, 0 to 10"),
        (b"{}", "journal:3:1: op_code: got None; expected one of Optuna's"),
        (b"\xff", "journal:3:1: not UTF-8 text"),
    ],
)
def test_a_damaged_line_of_a_journal_is_named_by_its_place(line, expected, tmp_path):
    path = tmp_path / "study.journal"
    run(open_study(f"journal:{path}"), 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(UserError) as error:
        open_study(f"journal:{path}")
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("study.db", "not a URL"),
        ("sqlite:////no/such/folder/study.db", "unable to open database file"),
        ("journal:/no/such/folder/x.journal", "no such folder"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", "storage postgresql+psycopg://me:***@127"),
        ("postgresql+psycopg://me:a@secret@127.0.0.1:1/x", "me:***@127.0.0.1:1/x"),
        ("postgresql+psycopg://me:a@b:secret@127.0.0.1:1/x", "me:***@127.0.0.1:1/x"),
        ("postgresql+psycopg://me:x/secret@127.0.0.1:1/x", "me:***@127.0.0.1:1/x"),
        ("postgresql+psycopg://127.0.0.1:1/x?user=me&password=secret", "password=***"),
        ("postgresql:me:secret@host/x", "'postgresql:...': not a URL"),
        ("me:secret@host/x", "'me:...': not a URL"),
        ("nonsense://x:secret@y", "nonsense://x:***@y"),
        ("nonsense://x", "nonsense"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line_without_its_password(url, expected):
    with pytest.raises(StorageError) as error:
        open_study(url)
    text = str(error.value)
    assert expected in text
    assert "secret" not in text
    assert "\n" not in text


def test_a_journal_of_something_else_is_refused(tmp_path):
    path = tmp_path / "study.journal"
    path.write_text("not json\n{}\n")
    with pytest.raises(UserError, match=r"study\.journal:1:1: not whole JSON"):
        open_study(f"journal:{path}")
    assert path.read_text() == "not json\n{}\n"


def test_bad_sampler_options_are_told_before_a_storage_is_made(tmp_path):
    path = tmp_path / "study.journal"
    with pytest.raises(UserError, match="n_startup_trial"):
        open_study(f"journal:{path}", n_startup_trial=3)
    assert not path.exists()


def test_samplers_that_need_more_name_the_extra(tmp_path, monkeypatch):
    from nas_t2i.search import study

    def needs_scipy(**_):
        raise ImportError("scipy")

    monkeypatch.setitem(study._SAMPLERS, "gp", needs_scipy)
    with pytest.raises(MissingExtraError, match=r"nas-t2i\[samplers\]"):
        open_study(f"journal:{tmp_path / 's.journal'}", sampler="gp")


def test_records_hold_no_secret():
    urls = {"urls": ["github://me:secret@org/repo/0.tar"]}
    record = study(
        storage="postgresql://db/x?password=secret",
        budget=BudgetUsed(budget_id="embedded-1", data={"data": {"sources": [urls]}}),
    )
    end = EndEvent(state=TrialState.FAILED, reason="OSError: s3://a/b?key=x&secret=secret: no")
    for text in (record.model_dump_json(), end.model_dump_json()):
        assert "=secret" not in text and ":secret" not in text and "***" in text
    assert "github://me:***@org/repo/0.tar" in record.model_dump_json()


def test_a_genetic_sampler_has_generations_and_is_resumed_in_the_same_one(url):
    study = open_study(url, sampler="nsga2", population_size=6)
    made = run(study, 36)
    trials = study._study.get_trials(deepcopy=False)
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in trials]
    assert generations == [number // 6 for number in range(36)]
    # Parents are chosen by their values: what follows is better than the first, random ones.
    early, late = (sum(map(sum, part)) for part in (made[:6], made[30:]))
    assert late > early
    again = open_study(url, sampler="nsga2", population_size=6)
    assert again.draft(draw).made == study.draft(draw).made


SEVERAL = ["larger", "smaller"]


def open_front(url: str, *, seed: int = 0, sampler: str = "tpe", **options) -> OptunaStudy:
    return OptunaStudy(
        "s",
        url,
        seed=seed,
        sampler=sampler,
        sampler_options=options,
        better=SEVERAL,
        warn=lambda _: None,
    )


def run_front(study: OptunaStudy, count: int) -> list[tuple[object, ...]]:
    seen = []
    for _ in range(count):
        draft = study.draft(draw)
        number = study.keep(draft)
        values = (float(sum(draft.made)), float(draft.made[0]))
        assert study.agree(number, Outcome("running", None, {})) == number
        assert study.agree(number, Outcome("complete", None, {}, values)) == number
        seen.append(draft.made)
    return seen


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("tpe", {"n_startup_trials": 4}),
        ("gp", {"n_startup_trials": 4}),
        ("nsga2", {"population_size": 4}),
        ("nsga3", {"population_size": 4}),
        ("random", {}),
    ],
)
def test_samplers_of_several_objectives_go_on_as_they_would_have(sampler, options, tmp_path):
    pytest.importorskip("scipy")
    whole = run_front(open_front("", sampler=sampler, **options), 9)
    url = f"journal:{tmp_path / 's.journal'}"
    parts = run_front(open_front(url, sampler=sampler, **options), 5)
    study = open_front(url, sampler=sampler, **options)
    parts += run_front(study, 4)
    assert parts == whole
    trial = study._study.get_trials(deepcopy=False)[0]
    assert trial.values == [sum(parts[0]), parts[0][0]] and trial.intermediate_values == {}


def test_a_result_that_changed_of_several_objectives_gets_another_place():
    study = open_front("")
    number = study.keep(study.draft(draw))
    study.agree(number, Outcome("complete", None, {}, (1.0, 2.0)))
    assert study.agree(number, Outcome("complete", None, {}, (1.0, 2.0))) == number
    assert study.agree(number, Outcome("complete", None, {}, (1.5, 2.0))) == number + 1
    assert study.agree(study.keep(study.draft(draw)), Outcome("failed", None, {})) == number + 2


def test_a_study_of_other_objectives_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    open_study(url)
    with pytest.raises(StorageError, match="seeks maximize, not maximize, minimize; choose anot"):
        open_front(url)


def test_a_study_in_memory_proposes_what_one_on_disk_does(tmp_path):
    on_disk = open_study(f"journal:{tmp_path / 's.journal'}")
    in_memory = open_study("")
    assert run(on_disk, 14) == run(in_memory, 14)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_sampler_that_is_told_who_is_beyond_a_soft_limit_prefers_the_others(url, sampler):
    options = {"population_size": 8} if sampler == "nsga2" else {}

    def proposed(place: str, told: bool) -> float:
        study = open_study(place, sampler=sampler, **options)
        sums = []
        for _ in range(40):
            draft = study.draft(draw)
            sums.append(sum(draft.made))
            if told:
                draft.beyond({"sum": (sums[-1] - 6) / 6})
            number = study.keep(draft)
            study.agree(number, complete(draft.made))
        again = study.agree(number, Outcome("complete", 0.5, {}))  # another takes its place
        held = study._study.get_trials(deepcopy=False)[again]
        assert held.constraints == ({"sum": pytest.approx((sums[-1] - 6) / 6)} if told else {})
        return sum(one > 6 for one in sums[20:]) / 20

    assert proposed(url, told=True) < 0.6 * proposed("", told=False)  # more is better
