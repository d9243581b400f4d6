import os
from pathlib import Path

import pytest

from nas_t2i.errors import ConfigError, RecordError
from nas_t2i.evaluation.inputs.json_rows import load_rows
from nas_t2i.files import read_bytes, read_json
from nas_t2i.search.trial_config import load_trial_config
from nas_t2i.untrusted.regular_files import inside, read_regular
from nas_t2i.yaml_files import load_document


@pytest.fixture(params=["fifo", "device", "folder", "link to a device"])
def no_file(request, tmp_path):
    path = tmp_path / "x.json"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        return "/dev/zero"
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize(
    "read",
    [
        read_bytes,
        read_json,
        load_document,
        load_trial_config,
        lambda file: load_rows(file, "questions"),
    ],
)
def test_no_reader_waits_for_what_is_no_file(no_file, read, tmp_path):
    with pytest.raises((ConfigError, RecordError), match=r"no regular|Is a dir"):
        read(Path(no_file))


def test_a_file_of_the_largest_size_and_one_more(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(file, 5) == b"12345"
    with pytest.raises(OSError, match="larger than"):
        read_regular(file, 4)


def test_inside_follows_links(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "folder-2"
    folder.mkdir()
    other.mkdir()
    (folder / "a").write_text("a")
    (other / "b").write_text("b")
    (folder / "in").symlink_to(folder / "a")
    (folder / "out").symlink_to(other / "b")
    assert inside(folder, folder / "a") and inside(folder, folder / "in")
    assert not inside(folder, folder / "out") and not inside(folder, other / "b")
    (tmp_path / "alias").symlink_to(folder)
    assert inside(tmp_path / "alias", tmp_path / "alias" / "a")
