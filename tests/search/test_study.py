import gc
import os
import uuid
import warnings

import pytest
import sqlalchemy

from nas_t2i.errors import MissingExtraError, StorageError, UserError
from nas_t2i.records import BudgetUsed, EndEvent, TrialState
from nas_t2i.search.study import OptunaStudy
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


def run(study: OptunaStudy, count: int) -> list[tuple[object, ...]]:
    seen = []
    for _ in range(count):
        number, labels = study.ask(draw)
        study.report(number, 1, sum(labels) / 10)
        study.tell(number, float(sum(labels)))
        seen.append(labels)
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


def test_an_enqueued_point_is_what_the_next_ask_gives(url):
    study = open_study(url)
    study.enqueue({"a": 4, "b": 2})
    assert study.ask(draw)[1] == (4, 2)


def test_open_trials_come_back_with_their_attributes_and_can_be_reported_and_closed(url):
    study = open_study(url)
    number, _ = study.ask(draw)
    study.note(number, name="x", arch={"family": "unet"})
    again = open_study(url)
    (left,) = again.open_trials()
    assert (left.number, dict(left.attributes)) == (
        number,
        {"name": "x", "arch": {"family": "unet"}},
    )
    again.report(number, 400, 0.5)
    again.tell(number, None, stopped=True)
    again.tell(number, 0.7)  # a second word changes nothing and breaks nothing
    assert again.open_trials() == []
    assert again.count() == 1


def test_what_decode_cannot_use_closes_the_trial(url):
    study = open_study(url)

    def refuse(_):
        raise StorageError("no such architecture")

    with pytest.raises(StorageError, match="no such architecture"):
        study.ask(refuse)
    assert study.open_trials() == []


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
    with pytest.raises(StorageError, match=r"study\.journal"):
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
