"""What ``nas-t2i profile`` prints."""

import csv
import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nas_t2i.arch import profile as profiling
from nas_t2i.arch.catalog import CATALOG, reported
from nas_t2i.cli.main import main

KEYS = [
    "name",
    "arch_id",
    "family",
    "params",
    "gmacs",
    "gmacs_paper",
    "attention_gmacs",
    "attention_gmacs_paper",
    "attention_gmacs_paper_no_mid",
    "attention_share",
    "uncounted_ops",
]
SMALL = "family=unet,channels=32,channel_mult=[1,2],transformer_depth=[0,1],head_dim=8"


@pytest.fixture(scope="module", autouse=True)
def remember() -> Iterator[None]:
    """Profile each architecture once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling, "profile", functools.cache(profiling.profile))
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["profile", *arguments])
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


def test_json_is_a_list_of_objects_with_these_keys(run: Any) -> None:
    code, out, err = run("--arch", "SD2-C320", "--arch", SMALL, "--format", "json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert rows[0]["name"] == "SD2-C320"
    assert rows[0]["params"] == 865_910_724
    assert rows[0]["uncounted_ops"]["aten::scaled_dot_product_attention"] == 32
    assert rows[1]["name"] == "unet-C32-m1.2-TD0.1-h8"


def test_levels_come_on_demand(run: Any) -> None:
    (row,) = json.loads(run("--arch", SMALL, "--format", "json", "--by-level")[1])
    assert list(row) == [*KEYS, "levels"]
    assert [level["level"] for level in row["levels"]] == ["1x", "2x", "mid", "outside"]
    assert sum(level["params"] for level in row["levels"]) == row["params"]
    table = run("--arch", SMALL, "--by-level")[1]
    assert f"{row['params'] / 1e6:,.2f}" in table
    rows = list(
        csv.DictReader(io.StringIO(run("--arch", SMALL, "--by-level", "--format", "csv")[1]))
    )
    assert [r["level"] for r in rows] == ["1x", "2x", "mid", "outside"]


def test_csv_has_the_same_columns(run: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(run("--arch", SMALL, "--format", "csv")[1])))
    (expected,) = json.loads(run("--arch", SMALL, "--format", "json")[1])
    assert list(rows[0]) == KEYS
    assert float(rows[0]["gmacs"]) == expected["gmacs"]
    operators = expected["uncounted_ops"]
    assert rows[0]["uncounted_ops"] == ";".join(f"{op}={calls}" for op, calls in operators.items())


def test_a_table_fits_100_columns_and_has_units(run: Any) -> None:
    _, out, _ = run(*[a for name in CATALOG for a in ("--arch", name)])
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "GMACs" in out
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert lines["SDXL-C320"] == ["2.392", "200.9", "198.4", "150.1", "147.7", "126.5", "74.7"]
    assert lines["SDXL-C384-TD4_12"][0] == "4.073"


def test_the_resolution_changes_the_compute_only(run: Any) -> None:
    (small,) = json.loads(run("--arch", SMALL, "--format", "json")[1])
    (large,) = json.loads(run("--arch", SMALL, "--format", "json", "--resolution", "512")[1])
    assert large["params"] == small["params"]
    assert large["gmacs"] > 4 * small["gmacs"]  # attention grows with the square of the area


def test_the_papers_tables_stand_beside_what_it_prints(run: Any) -> None:
    code, out, err = run("--table", "paper")
    assert (code, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= 100
    marked = [line for line in out.splitlines() if line.rstrip().endswith("!")]
    assert [line.split()[0] for line in marked] == ["SDXL-TD4_8", "PixArt-XL/2"]
    assert (
        "! SDXL-TD4_8 at 77 text tokens: attention GMACs compute to 125.5, the paper prints 123"
        in out
    )
    assert "! PixArt-XL/2 at 120 text tokens: GMACs compute to 142.9, the paper prints 139" in out
    for row in reported():
        assert any(line.split()[:1] == [row.name] for line in out.splitlines())

    rows = json.loads(run("--table", "paper", "--format", "json")[1])
    assert len(rows) == 22
    assert all(abs(row["gmacs_difference"]) <= 1 or row["does_not_fit"] for row in rows)


def test_what_a_config_leaves_out_is_noted(run: Any, tmp_path: Path) -> None:
    class_name, config = CATALOG["SDXL-TD2"].diffusers_config(32)
    path = tmp_path / "config.json"
    extra = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}
    path.write_text(json.dumps({"_class_name": class_name, **config, **extra}))
    code, out, err = run("--arch", str(path), "--format", "json")
    assert code == 0
    assert json.loads(out)[0]["name"] == "SDXL-TD2"
    assert "addition_embed_type" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--arch and --table"),
        (["--arch", "SD2-C320", "--table", "paper"], "--arch and --table"),
        (["--table", "paper", "--by-level"], "expected no --resolution"),
        (["--arch", "SD2-C32"], "did you mean 'SD2-C320'?"),
        (["--arch", "SD2-C320", "--resolution", "250"], "expected a multiple of 8"),
        (["--arch", "SD2-C320", "--resolution", "240"], "latent_size: got 30; expected a multiple"),
        (["--arch", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Any, arguments: list[str], message: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("nas-t2i: error: ")


TINY = "family=unet,channels=8,channel_mult=[1],transformer_depth=[1],head_dim=4,norm_groups=4"


def test_latency_stands_beside_the_profile(run: Any) -> None:
    arguments = ("--arch", TINY, "--latency", "--resolution", "64", "--text-tokens", "4")
    code, out, err = run(*arguments, "--format", "json")
    (row,) = json.loads(out)
    assert (code, list(row)) == (0, [*KEYS, "latency"])
    assert row["latency"]["median_s"] > 0 and row["latency"]["latent_size"] == 8
    assert "is timed" in err
    (line,) = csv.DictReader(io.StringIO(run(*arguments, "--format", "csv")[1]))
    assert float(line["latency_median_s"]) > 0 and "latency" not in line
    shown = run(*arguments)[1]
    assert "median" in shown and "can't be compared" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--dtype", "bf16"), "expected them with --latency only"),
        (("--latency", "--by-level"), "timed as a whole"),
        (("--latency", "--device", "tpu"), "got 'tpu'; expected cpu, cuda or cuda:N"),
        (("--latency", "--device", "cuda:99"), "got 'cuda:99'; expected one of cpu"),
    ],
)
def test_latency_is_not_asked_for_by_half(run: Any, arguments: Any, told: str) -> None:
    code, out, err = run("--arch", TINY, *arguments)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1
