"""The log of answers: nothing is lost, nothing is asked twice, nobody else's file is touched."""

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.errors import StorageError
from nas_t2i.evaluation.answer_log import AnswerLog


def test_what_was_put_is_there_again(tmp_path):
    file = tmp_path / "new folder" / "log.jsonl"
    with AnswerLog(file) as log:
        log.put("image", "question", "model", {"text": "naïve\nanswer"})
        log.put("image", "question", "other model", 0.25)
        assert log.get("image", "question", "model") == {"text": "naïve\nanswer"}
    with AnswerLog(file) as log:
        assert log.count == 2
        assert log.get("image", "question", "model") == {"text": "naïve\nanswer"}
        assert log.get("image", "question", "other model") == 0.25
        assert log.get("image", "another", "model") is None
        assert log.notes == []


def test_the_first_value_stays(tmp_path):
    with AnswerLog(tmp_path / "log.jsonl") as log:
        log.put("p", "q", "m", "first")
        log.put("p", "q", "m", "second")
        assert log.get("p", "q", "m") == "first"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("value", [None, float("nan"), [float("inf")]])
def test_a_value_is_something_that_json_can_say(tmp_path, value):
    with (
        AnswerLog(tmp_path / "log.jsonl") as log,
        pytest.raises(ValueError, match=r"JSON|no value"),
    ):
        log.put("p", "q", "m", value)
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_in_memory_there_is_no_file():
    with AnswerLog(None) as log:
        log.put("p", "q", "m", "value")
        assert log.get("p", "q", "m") == "value"
        assert log.file is None


@given(data=st.data())
def test_a_log_cut_anywhere_goes_on_from_its_whole_lines(data, tmp_path_factory):
    file = tmp_path_factory.mktemp("logs") / "log.jsonl"
    with AnswerLog(file) as log:
        for number in range(4):
            log.put(f"p{number}", "q", "m", f"é{number}")
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    lacks_only_its_end = whole[cut : cut + 1] == b"\n"
    torn = cut > 0 and whole[cut - 1 : cut] != b"\n" and not lacks_only_its_end
    with AnswerLog(file) as log:
        assert log.count == whole[:cut].count(b"\n") + lacks_only_its_end
        assert len(log.notes) == torn
        for number in range(4):
            log.put(f"p{number}", "q", "m", f"é{number}")
    assert file.read_bytes() == whole


def test_the_end_is_left_alone_while_somebody_writes(tmp_path):
    file = tmp_path / "log.jsonl"
    with AnswerLog(file) as first:
        first.put("p", "q", "m", "value")
        with file.open("ab") as stream:
            stream.write(b'{"image": "on its w')
        with AnswerLog(file) as second:
            assert second.count == 1
            assert second.notes == []
        assert file.read_bytes().endswith(b"on its w")


def test_a_broken_line_in_the_middle_is_passed_over_and_named(tmp_path):
    file = tmp_path / "log.jsonl"
    with AnswerLog(file) as log:
        log.put("p", "q", "m", "value")
    with file.open("ab") as stream:
        stream.write(b'{"image": "p", "asked": 3\n{"image": "p", "asked": 3, "identity": "m"}\n')
    with AnswerLog(file) as log:
        assert log.count == 1
        assert log.notes == [f"{file}:{line}: not an answer; passed over" for line in (2, 3)]


@pytest.mark.parametrize(
    "content", ["[\n]", '{"event": "start"}\n', '{"id": "own_1", "cap', "name: x\nb: 1"]
)
def test_a_file_of_another_kind_is_not_written_to(tmp_path, content):
    file = tmp_path / "questions.json"
    file.write_text(content)
    with pytest.raises(StorageError, match=r"questions.json:1: not an answer; expected a log of"):
        AnswerLog(file)
    assert file.read_text() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["questions.json"]


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(StorageError, match="can't be opened: Is a directory"):
        AnswerLog(tmp_path)


def _append(file: Path, writer: int) -> None:
    with AnswerLog(file) as log:
        for number in range(200):
            log.put(f"p{number}", "q", f"m{writer}", "x" * (number % 50))


def test_several_processes_may_write_one_log(tmp_path):
    file = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(file, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert all(json.loads(line)["value"] is not None for line in file.read_text().splitlines())
    with AnswerLog(file) as log:
        assert log.count == 600
