"""``nas-t2i plugins``: a list, JSON, and the checks of one."""

import json

import pytest

from nas_t2i.cli.main import main

CODEC = ("--check", "pixel_unshuffle", "--set", "factor=2")


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["plugins", *arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_everything_that_can_be_named_is_listed(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["metrics", "fid", "built-in"] in lines and [
        "stopping",
        "best_share",
        "built-in",
    ] in lines
    code, out, _ = run(capsys, "--json", "--kind", "codecs")
    assert [row["name"] for row in json.loads(out)] == ["autoencoder_kl", "pixel_unshuffle"]


def test_a_family_has_parameters_to_be_checked_with(capsys):
    code, out, _ = run(capsys, "--check", "unet", "--set", "channels=128")
    assert code == 0 and "FAILED" not in out
    first, *_, last = out.splitlines()
    assert first == "with channels=128, channel_mult=[1, 2], transformer_depth=[0, 1]"
    assert last == "family unet (built-in): keeps to its kind"


def test_the_checks_of_one(capsys, tmp_path, monkeypatch):
    code, out, _ = run(capsys, *CODEC, "--set", "scale=1.0")
    assert code == 0 and "FAILED" not in out
    assert out.splitlines()[0] == "with factor=2, scale=1.0"
    assert out.splitlines()[-1] == "latent codec pixel_unshuffle (built-in): keeps to its kind"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from nas_t2i.protocol.search import StoppingRule\n"
        "class Never(StoppingRule):\n"
        "    def goes_on(self, candidate, at_rung, rung_index): return False\n"
        "    def described(self, rungs): return 'nobody goes on'\n"
    )
    code, out, _ = run(capsys, "--check", "mine:Never", "--kind", "stopping")
    assert code == 1 and "FAILED  the best goes on: it is stopped" in out
    assert "stopping rule mine:Never (mine.py sha256:" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "metric"), "--kind: got 'metric'; expected one of families"),
        (("--check", "pixel_unshufle"), "did you mean 'pixel_unshuffle'?"),
        (("--check", "mine:Never"), "expected --kind with a file's module:Class"),
        (("--check", "shapes"), "'shapes' is of data_sources and of text_encoders and of vqa"),
        ((*CODEC, "--set", "scale"), "--set: got 'scale'; expected KEY=VALUE"),
        (("--check", "autoencoder_kl"), "the key 'model' is missing; expected --set model=VALUE"),
        (("--set", "a=1"), "--set: got 'a=1'; expected it with --check"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and message in err and len(err.splitlines()) == 1
