"""The redactor: no secret is left, what is no secret stays, and what is hidden stays hidden."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_t2i.errors import ConfigError, StorageError
from nas_t2i.untrusted.redact import redacted, redacted_data

SECRET = "s3cr3t/w@rd:x"  # noqa: S105


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://me:SECRET@db.host:5432/optuna",
        "postgresql://db/optuna?user=me&password=SECRETX",
        "mysql://u:SECRET@host/d?ssl=1",
        "user:SECRET@host/db",
        "postgresql:user:SECRET@host",
        "postgresql:/user:SECRET@host",
        "github://a:SECRET@org/repo/000.tar",
        "s3://bucket/x.tar?key=AKIAIOSFODNN7EXAMPLE&secret=SECRETX",
        "https://h/x.tar?X-Amz-Signature=SECRETX&X-Amz-Security-Token=SECRETX",
        "https://blob/x.tar?sv=2&sig=SECRETX",
        "https://SECRETX@host/x.tar",
        "host=db user=me password=SECRETX dbname=x",
        "host=db password='SECRET with spaces' dbname=x",
        "{'user': 'me', 'password': 'SECRET'}",
        '{"access_token": "SECRET"}',
        "Authorization: Bearer SECRETXSECRETX",
        "token hf_SECRETXSECRETXSECRETX is wrong",
        "ghp_SECRETXSECRETXSECRETX",
    ],
)
def test_no_secret_is_left(text):
    plain = text.replace("SECRETX", "s3cr3tw0rd").replace("SECRET", SECRET)
    shown = redacted(f"can't open {plain}: refused")
    assert "s3cr3t" not in shown
    assert "w@rd" not in shown and "w0rd" not in shown and "***" in shown
    assert shown.startswith("can't open ")
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///study.db",
        "journal:/home/me@lab/study/optuna.journal",
        "postgresql+psycopg://me@host/optuna",
        "my_space.yaml:3:14: parameters.channels: got 'a'; expected a whole number of at least 1",
        "https://host:8080/{0000..0123}.tar",
        "openclip text tokens: 77, key: arch_id",
        "trials/unet-6389762c4fbd-s0: keys ['a', 'b']; expected b@2",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


@given(
    st.text(
        st.characters(codec="ascii", exclude_characters=" '\"<>`\n\t\r\x0b\x0c\x1c\x1d\x1e\x1f"),
        min_size=1,
    )
)
def test_no_password_of_a_url_comes_through(password):
    marked = f"MARK{password}MARK"
    assert "MARK" not in redacted(f"storage postgresql://user:{marked}@host/d can't be used")


def test_of_mappings_what_stands_under_the_name_of_a_secret_is_hidden():
    data = {"url": "s3://a:b@c", "options": {"db_password": "x"}, "list": ["http://a:b@c"], "n": 1}
    assert redacted_data(data) == {
        "url": "s3://a:***@c",
        "options": {"db_password": "***"},
        "list": ["http://a:***@c"],
        "n": 1,
    }


def test_every_message_is_redacted_and_printable():
    error = ConfigError("budget: urls", "got 'github://a:b@c\x1b[31m'", hint="\u202eevil")
    assert str(error) == r"budget: urls: got 'github://a:***@c\x1b[31m'; \u202eevil"
    assert "pw" not in str(StorageError("storage x://u:pw@h: no"))


def test_a_traceback_is_redacted():
    code = (
        "import sys\n"
        "from nas_t2i.untrusted.redact import print_traceback\n"
        "sys.excepthook = print_traceback\n"
        "raise RuntimeError('x://u:' + 'p' * 8 + '@h')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "RuntimeError: x://u:***@h" in done.stderr
