"""The file: the same bytes for the same content, and a line for whatever is wrong with it."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas_t2i.benchmark.build import build_table
from nas_t2i.benchmark.form import read_table, write_table
from nas_t2i.errors import RecordError, UserError


def test_the_same_content_gives_the_same_bytes(study, table_file, tmp_path):
    manifest, arrays = build_table([study], "measured")
    for name in ("one.npz", "two.npz"):
        write_table(tmp_path / name, manifest, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    write_table(tmp_path / "again.npz", *read_table(table_file))
    assert (tmp_path / "again.npz").read_bytes() == table_file.read_bytes()
    assert table_file.stat().st_size < 1e6  # of 66 trials


def test_numpy_alone_reads_the_arrays(table_file):
    with np.load(table_file, allow_pickle=False) as arrays:
        assert arrays["value"].shape == (33, 2, 7, 26)
        assert json.loads(arrays["manifest"].tobytes())["format"] == "nas-t2i table"


def changed(file: Path, to: Path, name: str, content: bytes | None) -> Path:
    """Copy an archive with one member changed, or left out."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(to, "w") as new:
        for member in old.namelist():
            if member != f"{name}.npy":
                new.writestr(member, old.read(member))
            elif content is not None:
                new.writestr(member, content)
    return to


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def manifest_with(file: Path, **changes) -> bytes:
    with np.load(file) as arrays:
        data = json.loads(arrays["manifest"].tobytes()) | changes
    return npy(np.frombuffer(json.dumps(data).encode(), dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("value", lambda f: None, "an archive without value; expected a table that"),
        ("value", lambda f: npy(np.zeros((1, 1))), "changed since it was written"),
        ("value", lambda f: npy(np.zeros(3, dtype=np.float32)), "value holds <f4; expected <f8"),
        ("value", lambda f: npy(np.array([{}], dtype=object)), "value is no array"),
        ("value", lambda f: b"nonsense", "value is no array"),
        ("manifest", lambda f: manifest_with(f, format="else"), "of another kind of file"),
        ("manifest", lambda f: manifest_with(f, version=2), "a table of version 2; expected at"),
        ("manifest", lambda f: manifest_with(f, steps="x"), "manifest: steps: "),
        ("manifest", lambda f: npy(np.frombuffer(b"{", dtype=np.uint8)), "not whole JSON"),
        ("manifest", lambda f: manifest_with(f, digest="0"), "changed since it was written"),
        ("manifest", lambda f: manifest_with(f, seeds=[0]), "value has the shape"),
        ("manifest", lambda f: manifest_with(f, metrics=[]), "metrics: without tifa, loss"),
        ("manifest", lambda f: manifest_with(f, environments=[]), "an environment that the"),
    ],
)
def test_a_foreign_newer_or_changed_file_is_told_in_a_line(
    table_file, tmp_path, name, make, message
):
    file = changed(table_file, tmp_path / "bad.npz", name, make(table_file))
    with pytest.raises(RecordError, match=message) as error:
        read_table(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_no_file_a_text_and_a_pickle_are_told(tmp_path):
    (tmp_path / "table.npz").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(RecordError, match="no NumPy archive"):
        read_table(tmp_path / "table.npz")
    with pytest.raises(RecordError, match=r"no such file; .*did you mean 'table.npz'"):
        read_table(tmp_path / "tabel.npz")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_cut_or_flipped_is_a_line_or_nothing(table_file, tmp_path, data):
    content = bytearray(table_file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "x.npz").write_bytes(content)
    try:
        manifest, arrays = read_table(tmp_path / "x.npz")
    except UserError as error:
        assert "\n" not in str(error)
    else:  # a byte that says nothing, as of a date
        whole = read_table(table_file)
        assert manifest == whole[0]
        assert all(np.array_equal(arrays[k], v, equal_nan=True) for k, v in whole[1].items())
