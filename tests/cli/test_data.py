"""``nas-t2i data`` from a budget and images on disk to counts, a figure and a filled cache."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from nas_t2i.cli.main import main
from nas_t2i.data.index.filters import Filters
from nas_t2i.protocol.budget import Budget
from nas_t2i.protocol.data import FilterRule
from nas_t2i.yaml_files import load_document
from tests.conditioning.checkpoints import tiny_openclip
from tests.data.shard_maker import make_image, pair, write_shard

ROOT = Path(__file__).parents[2]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["data", *arguments])
    out, err = capsys.readouterr()
    code = end.value.code
    return (0 if code is None else int(code)), out, err


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_openclip(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(tmp_path, monkeypatch, models):
    """A working directory with a shard, a folder of images and a budget over both."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "home"))
    monkeypatch.setattr("nas_t2i.cli.data._PIPED_WIDTH", 200)
    synthetic = ["a photo of two dogs and a ball", "a lawn", "never drawn: a volcano"]
    metadata = [
        {"aesthetic": 6.0, "caption": "a dog", "synthetic": synthetic},
        {"aesthetic": 5.0, "caption": "the dog", "synthetic": []},
        {"aesthetic": 2.0, "caption": "an ugly car"},
        {"caption": "an image without a score"},
    ]
    write_shard("shards/0.tar", [pair(i, "", row) for i, row in enumerate(metadata)])
    Path("images").mkdir()
    lines = []
    for number in range(4, 10):
        Path(f"images/{number}.png").write_bytes(make_image(number, (24, 24)))
        lines.append(
            {"file_name": f"{number}.png", "caption": f"a house number {number}", "aesthetic": 7}
        )
    Path("images/9.png").write_bytes(b"no image")
    Path("images/metadata.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    budget = load_document(ROOT / "budgets/embedded_v1.yaml").data
    config, weights = models
    budget |= {
        "data": {
            "source": "pairs",
            "sources": [
                {"source": "shards", "urls": "shards/*.tar"},
                {"source": "folder", "path": "images"},
            ],
            "resolution": 16,
            "captions": [
                {"field": "caption", "probability": 0.5},
                {"field": "synthetic", "probability": 0.5, "first": 2},
            ],
            "filters": [
                {"keep": "aesthetic >= 4.5", "missing": "drop"},
                {"keep": "aspect < 2", "missing": "drop"},
            ],
            "bad_share": 0.2,
            "cache": "cache",
        },
        "text": {
            "encoder": "openclip",
            "model": str(config),
            "checkpoint": str(weights),
            "layer": "last",
            "padding": "zero",
            "precision": "fp32",
        },
    }
    write_budget(budget)
    return tmp_path


def write_budget(budget):
    Path("mine.yaml").write_text(yaml.safe_dump(budget))


def change_data(**changes):
    budget = load_document("mine.yaml").data
    budget["data"] |= changes
    write_budget(budget)


def rows_of(text: str) -> dict[str, list[str]]:
    """The lines of a printed report by what they say, without the share."""
    parts = [line.split() for line in text.splitlines() if line.endswith("% ")]
    return {" ".join(part[:-3]): part[-3] for part in parts}


def test_check_says_what_became_of_every_sample(capsys, folder):
    code, out, _ = run(capsys, "check", "mine.yaml")
    assert code == 0
    assert rows_of(out) == {
        "samples seen": "10",
        "bad: not a JPEG, PNG or WebP image": "1",
        "dropped by aesthetic >= 4.5": "2",
        "dropped by aspect < 2": "0",
        "kept": "7",
    }
    assert (folder / "cache/index").is_dir()


def test_stats_count_as_by_hand_for_each_source_and_for_all(capsys, folder):
    code, out, _ = run(capsys, "stats", "mine.yaml", "--export", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    found = [
        (
            row["dataset"],
            row["synthetic_captions"],
            round(1e6 * float(row["image_text_pairs_m"])),
            round(1e6 * float(row["image_noun_pairs_m"])),
            round(1e6 * float(row["unique_nouns_m"])),
            float(row["avg_aesthetic_score"]),
        )
        for row in rows
    ]
    assert found == [
        # dog / dog
        ("shards/*.tar", "False", 2, 2, 1, 5.5),
        # dog photo ball lawn / dog; the third synthetic caption is never drawn
        ("shards/*.tar", "True", 4, 5, 4, 5.5),
        # house number, five times
        ("images", "False", 5, 10, 2, 7.0),
        ("all sources", "False", 7, 12, 3, pytest.approx(46 / 7, abs=1e-6)),
        ("all sources", "True", 9, 15, 6, pytest.approx(46 / 7, abs=1e-6)),
    ]
    assert float(rows[0]["nouns_per_image"]) == 1.0


def test_stats_print_a_table_and_draw_a_figure(capsys, folder):
    code, out, _ = run(capsys, "stats", "mine.yaml", "-o", "captions.svg")
    assert code == 0
    assert "dropped by aesthetic >= 4.5" in out
    assert "with synthetic" in out and "nouns per image" in " ".join(out.split())
    assert Path("captions.svg").read_text().startswith("<?xml")


def test_exported_json_is_nothing_but_json(capsys, folder):
    code, out, _ = run(capsys, "stats", "mine.yaml", "--export", "json")
    assert code == 0 and len(json.loads(out)) == 5


def test_without_a_cache_the_index_lies_in_the_cache_folder(capsys, folder):
    change_data(cache=None)
    assert run(capsys, "check", "mine.yaml")[0] == 0
    assert (folder / "home/pairs").is_dir()


def test_prepare_says_what_it_takes_then_fills_the_cache(capsys, folder):
    code, out, _ = run(capsys, "prepare", "mine.yaml", "--dry-run")
    assert code == 0
    # dog, two synthetic of it, dog, five houses
    assert "7 pairs, 9 distinct captions" in out and "are free there" in out
    for options in ([], ["--device", "cpu"]):
        code, out, _ = run(capsys, "prepare", "mine.yaml", *options)
        assert (code, out) == (0, "cache cache: complete\n")
    assert {file.name.partition("-")[0] for file in (folder / "cache").iterdir()} >= {
        "index",
        "latents",
        "text",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "embedded"], "data.source: got 'shapes'"),
        (["check", "embeded"], "did you mean 'embedded'?"),
        (["stats", "mine.yaml", "-o", "figure.pgn"], "did you mean 'png'?"),
        (["stats", "mine.yaml", "--export", "xml"], "'xml' is not one of 'csv', 'json'"),
        (["prepare", "mine.yaml", "--device", "tpu"], "'tpu' is not one of 'cpu', 'cuda'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, folder, arguments, expected):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1 and err.startswith("nas-t2i: error: ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"filters": [{"keep": "aesthetic => 4", "missing": "drop"}]}, "at column 11: invalid"),
        ({"filters": [{"keep": "a > 4", "missing": "error"}]}, "pair 000000000: has no 'a'"),
        (
            {"filters": [{"keep": "punsafe < 1 or asthetic > 4", "missing": "keep"}]},
            "data.filters[0].keep: got 'asthetic', which holds nothing of use in any pair",
        ),
        ({"bad_share": 0.01}, "1 of 10 samples are bad (1 not a JPEG, PNG or WebP image)"),
    ],
)
def test_bad_data_end_with_one_line_and_status_2(capsys, folder, changes, expected):
    change_data(**changes)
    code, out, err = run(capsys, "check", "mine.yaml")
    assert (code, out) == (2, "")
    assert expected in err.splitlines()[-1]


def test_prepare_without_a_cache_says_so(capsys, folder):
    change_data(cache=None)
    for options in ([], ["--dry-run"]):
        code, _, err = run(capsys, "prepare", "mine.yaml", *options)
        assert code == 2 and "data.cache: got null" in err


def test_stats_without_textblob_names_the_extra_before_the_work(capsys, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "textblob.en", None)
    code, _, err = run(capsys, "stats", "mine.yaml")
    assert code == 2 and "pip install 'nas-t2i[data]'" in err
    assert not (folder / "cache").exists()


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    from nas_t2i.cli.data import _Bars

    now = 0.0
    monkeypatch.setattr("nas_t2i.cli.data.time.monotonic", lambda: now)
    with _Bars() as bars:
        for step in range(0, 101):
            now = float(step)
            bars("images", 1000 + 10 * step, 3000)
    err = capsys.readouterr().err
    assert err.splitlines() == [
        "images: 1,300 of 3,000, about 2m50s left",
        "images: 1,600 of 3,000, about 2m20s left",
        "images: 1,900 of 3,000, about 1m50s left",
    ]


def test_the_guides_budget_and_filters_can_be_read():
    guide = (ROOT / "docs/your-data.md").read_text()
    budget = load_document(ROOT / "budgets/embedded_v1.yaml").data
    example = yaml.safe_load(re.search(r"```yaml\n(name: .*?)```", guide, re.DOTALL)[1])
    Budget.model_validate(budget | example)
    table = guide.partition("| filter | expression |")[2].partition("\n\n")[0]
    expressions = re.findall(r"`([^`]+)`", table)
    assert len(expressions) >= 8
    Filters([FilterRule(keep=expression, missing="drop") for expression in expressions])
