"""Names of files as people write them."""

from pathlib import Path

import pytest

from nas_t2i.data.sources.common.paths import expand_braces, find_files, is_url
from nas_t2i.errors import ConfigError


@pytest.mark.parametrize(
    "text,names",
    [
        ("a.tar", ["a.tar"]),
        ("{0008..0011}.tar", ["0008.tar", "0009.tar", "0010.tar", "0011.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{a,b}/{1..2}.tar", ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]),
        ("s3://b/{00..01}.tar", ["s3://b/00.tar", "s3://b/01.tar"]),
    ],
)
def test_braces(text: str, names: list[str]) -> None:
    assert expand_braces(text, "here") == names


@pytest.mark.parametrize("text", ["{}", "{x}", "{3..1}", "{0..99999999}", "{0..999}{0..999}{0..9}"])
def test_other_braces_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^here: got "):
        expand_braces(text, "here")


def test_globs_are_sorted_and_variables_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    assert find_files("$MY_DATA/*.tar", "here") == [f"{tmp_path}/{n}.tar" for n in "ab"]
    assert find_files("${MY_DATA}/{b,a}.tar", "here") == [f"{tmp_path}/{n}.tar" for n in "ba"]
    monkeypatch.setenv("MY_DATA", "s3://bucket")
    assert find_files("$MY_DATA/{0..1}.tar", "here") == [f"s3://bucket/{n}.tar" for n in "01"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("~/a.tar", "here") == [f"{tmp_path}/a.tar"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000.tar").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"here: .*0000.tar: no such file; .*mean '00000.tar'"):
        find_files(f"{tmp_path}/0000.tar", "here")
    with pytest.raises(ConfigError, match=r"is a folder; expected tar files; did you mean .*/\*"):
        find_files(str(tmp_path), "here")
    with pytest.raises(ConfigError, match="which no file matches"):
        find_files(f"{tmp_path}/*.tgz", "here")
    with pytest.raises(ConfigError, match=r"\$NO_SUCH_NAME is not set"):
        find_files("$NO_SUCH_NAME/x.tar", "here")


def test_urls() -> None:
    assert is_url("https://a/b.tar")
    assert is_url("s3://a/b.tar")
    assert not is_url("a/b.tar")
    assert not is_url("/a:/b.tar")
