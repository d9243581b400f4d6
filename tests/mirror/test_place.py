import os
import uuid

import pytest

from nas_t2i.errors import UserError
from nas_t2i.mirror.owner import Lease, new_token
from nas_t2i.mirror.place import is_url, open_place


def test_objects_are_put_listed_got_and_removed(url, tmp_path):
    place = open_place(url).at("study")
    assert place.list() == {}
    assert place.get("a.json") is None
    place.put("a.json", b"one")
    (tmp_path / "big").write_bytes(bytes(100_000))
    place.put_file("trials/x/big", tmp_path / "big")
    place.put("a.json", b"other")
    listing = place.list()
    assert {name: entry.size for name, entry in listing.items()} == {
        "a.json": 5,
        "trials/x/big": 100_000,
    }
    assert all(entry.version for entry in listing.values())
    assert list(place.list("trials")) == ["trials/x/big"]
    place.get_files(list(listing), tmp_path / "here")
    assert (tmp_path / "here/a.json").read_bytes() == b"other"
    assert (tmp_path / "here/trials/x/big").stat().st_size == 100_000
    assert sorted(file.name for file in (tmp_path / "here").iterdir()) == ["a.json", "trials"]
    place.remove(["a.json", "never.json"])
    assert list(place.list()) == ["trials/x/big"]


def test_names_that_lead_elsewhere_are_not_listed(tmp_path):
    place = open_place(f"file://{tmp_path}/there")
    place.put("good", b"")
    place.system.pipe_file(f"{place.path}/.hidden", b"")
    place.system.pipe_file(f"{place.path}/a\\b", b"")
    assert list(place.list()) == ["good"]


def test_what_is_a_url():
    assert is_url("s3://bucket/x")
    assert is_url("file:///x")
    assert not is_url("results")
    assert not is_url("journal:x")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("memory://x", "a URL of an object store"),
        ("https://host/x", "a URL of an object store"),
        ("zip://x::s3://bucket/a.zip", "a URL of an object store"),
        ("s33://bucket/x", "Protocol not known: s33; did you mean 's3'?"),
        ("s3://", "expected a bucket"),
    ],
)
def test_urls_that_hold_no_results_are_refused(url, told):
    pytest.importorskip("s3fs")
    with pytest.raises(UserError) as error:
        open_place(url)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    def missing(*_args, **_options):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UserError, match=r"pip install 'nas-t2i\[s3\]'"):
        open_place("s3://bucket/x")
    with pytest.raises(UserError, match="another package: Install s3fs"):
        open_place("gs://bucket/x")


def refusal(url: str) -> str:
    with pytest.raises(UserError) as error:
        Lease(open_place(url).at("study"), [new_token()], print)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_bucket_that_is_not_there_is_told(s3):
    told = refusal(f"s3://no-such-{uuid.uuid4().hex}/x")
    assert "no such bucket" in told


def test_a_store_that_is_not_there_is_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "127.0.0.1:9" in refusal(s3)


def test_missing_credentials_are_told(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "credentials" in refusal(s3)


def test_credentials_without_rights_are_told(s3, monkeypatch):
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)  # from now on
    told = refusal(s3)
    assert "no rights" in told


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_is_told(tmp_path):
    (tmp_path / "there").mkdir(mode=0o500)
    assert "no rights" in refusal(f"file://{tmp_path}/there")
