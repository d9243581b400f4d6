"""Object stores for tests: a folder by file://, and moto's server of S3 on this machine."""

import contextlib
import uuid

import pytest

from nas_t2i.mirror import owner, send, study


@pytest.fixture(autouse=True)
def quickly(monkeypatch, tmp_path):
    """Leases and pauses of a moment, and a cache of its own."""
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(owner, "STALE_SECONDS", 1.5)
    monkeypatch.setattr(owner, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(send, "PERIOD_SECONDS", 0.1)
    monkeypatch.setattr(study, "FINISH_SECONDS", 5.0)
    monkeypatch.setattr(study, "FETCH_SECONDS", 0.5)


@pytest.fixture(scope="session")
def s3_server():
    """The endpoint of a server of S3; what it holds is in its memory."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A URL of a folder in a bucket; credentials and endpoint are in the environment."""
    import s3fs

    names = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    system.mkdir(bucket)
    return f"s3://{bucket}/results"


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    """A results URL of each kind that is tested."""
    if request.param == "file":
        return f"file://{tmp_path}/there/results"
    return request.getfixturevalue("s3")


@contextlib.contextmanager
def broken(place, *names):
    """Let the store of a place fail in what is named."""

    def fail(*_args, **_options):
        raise OSError("the store is away")

    whole = {name: getattr(place.system, name) for name in names}
    for name in names:
        setattr(place.system, name, fail)
    try:
        yield
    finally:
        for name, method in whole.items():
            setattr(place.system, name, method)
