import gc
import os
import uuid
import warnings

import pytest
import sqlalchemy


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(monkeypatch, shared_cache):
    monkeypatch.setenv("NAS_T2I_CACHE", str(shared_cache))


@pytest.fixture
def database():
    """A database of its own on the server $NAS_T2I_TEST_POSTGRES."""
    server = os.environ["NAS_T2I_TEST_POSTGRES"]
    name = f"nas_t2i_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        yield f"{server}/{name}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
