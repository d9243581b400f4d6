"""Shards behind URLs are downloaded once, whole or not at all."""

from pathlib import Path

import fsspec
import pytest

from nas_t2i.data.sources.common.remote import local_copy
from nas_t2i.errors import ConfigError, MissingExtraError, StorageError
from tests.data.shard_maker import served


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/shards"


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/a b.tar", b"content" * 1000)
    yield system
    system.rm("/bucket", recursive=True)


def files(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.is_file()]


def test_a_url_is_downloaded_once(memory: fsspec.AbstractFileSystem, cache: Path) -> None:
    file = local_copy("memory://bucket/a b.tar")
    assert file.read_bytes() == b"content" * 1000
    memory.pipe("/bucket/a b.tar", b"changed")
    assert local_copy("memory://bucket/a b.tar?signature=x") == file
    assert file.read_bytes() == b"content" * 1000
    assert files(cache) == [file.name]


def test_a_name_from_a_url_is_no_path(memory: fsspec.AbstractFileSystem, cache: Path) -> None:
    memory.pipe("/bucket/..", b"x")
    assert local_copy("memory://bucket/..").parent == cache


def test_a_download_that_comes_out_short_leaves_nothing(
    memory: fsspec.AbstractFileSystem, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(memory), "size", lambda self, path: 7001)
    with pytest.raises(StorageError, match=r"memory://bucket/a b.tar: got 7000 of 7001 bytes"):
        local_copy("memory://bucket/a b.tar")
    assert files(cache) == []


def test_what_can_not_be_had_is_named(cache: Path) -> None:
    with pytest.raises(StorageError, match=r"none.tar: can't be downloaded: no such file$"):
        local_copy("memory://bucket/none.tar")
    with pytest.raises(ConfigError, match=r"^nothing://x/y.tar: can't be read: "):
        local_copy("nothing://x/y.tar")
    assert files(cache) == []


def test_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    (tmp_path / "web/0.tar").write_bytes(b"content")
    with served(tmp_path / "web") as address:
        assert local_copy(f"{address}/0.tar").read_bytes() == b"content"
        with pytest.raises(StorageError, match=r"1.tar: can't be downloaded: 404"):
            local_copy(f"{address}/1.tar")
    with pytest.raises(StorageError, match=r"2.tar: can't be downloaded: Cannot connect"):
        local_copy(f"{address}/2.tar")


def test_http_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object) -> None:
        raise ImportError("HTTPFileSystem requires aiohttp")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"nas-t2i\[data\]"):
        local_copy("https://example.org/0.tar")
    with pytest.raises(ConfigError, match=r"no package for s3:// is installed"):
        local_copy("s3://example/0.tar")
