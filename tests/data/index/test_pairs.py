"""The index of pairs: what is in it, what is not, and that it is made once."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest

from nas_t2i.data.embedded import shapes
from nas_t2i.data.images.bad_samples import BadSampleError, TooManyBadSamplesError
from nas_t2i.data.index.pairs import PairIndex, open_index
from nas_t2i.data.index.scan import Scanner
from nas_t2i.errors import ConfigError
from tests.data.shard_maker import (
    Sample,
    encoded,
    make_image,
    pair,
    pairs_data,
    pixels,
    write_shard,
)

SHAPES = {"source": "shapes", "scenes": 30, "two_objects": 0.5, "two_groups": 0.2}


def opened(tmp_path: Path, data, lines: list[str] | None = None) -> PairIndex:
    say = [].append if lines is None else lines.append
    return open_index(data, tmp_path / "index", say)


def keys(index: PairIndex) -> list[str]:
    return [index.name(row).split(": ")[1].lstrip("0") for row in range(len(index))]


def test_pairs_of_several_sources(tmp_path: Path) -> None:
    for shard in range(2):
        samples = [pair(10 * shard + n, metadata={"n": n}) for n in range(3)]
        write_shard(tmp_path / f"shards/{shard:04}.tar", samples)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.png").write_bytes(make_image(50))
    (tmp_path / "folder/a.txt").write_text("image number 10")
    data = pairs_data(
        {"source": "shards", "urls": f"{tmp_path}/shards/{{0000..0001}}.tar", "weight": 3.0},
        {"source": "folder", "path": str(tmp_path / "folder")},
        SHAPES,
        resolution=32,
    )
    index = opened(tmp_path, data)
    assert index.rows_of_source == [range(6), range(6, 7), range(7, 37)]
    assert index.weights == [3.0, 1.0, 1.0]
    assert (index.report.seen, index.report.kept) == (37, 37)
    assert [index.name(row) for row in (0, 3, 6, 7)] == [
        "0000.tar: 000000000",
        "0001.tar: 000000010",
        "folder: a.png",
        "shapes: 0",
    ]
    # The caption that two pairs share is stored once.
    assert index.caption_row(3, 0.5, 0.5) == index.caption_row(6, 0.5, 0.5)
    assert len(index.captions) == len(set(index.captions))
    for row in range(len(index)):
        assert index.image(row).shape == (3, 32, 32)
    assert index.metadata(4)["n"] == 1
    assert index.metadata(4)["aspect"] == 40 / 32
    scenes = shapes.sample_scenes(0, "train", 30, mixture=shapes.Mixture(0.5, 0.2))
    drawn = shapes.render(scenes)[4].repeat(2, 0).repeat(2, 1).transpose(2, 0, 1)
    np.testing.assert_array_equal(index.image(11), drawn)
    assert index.captions_of(11) == [[shapes.captions(scenes)[4]]]


def test_captions_by_field(tmp_path: Path) -> None:
    samples = [
        pair(0, "original", {"made": ["best", "second", "third"]}),
        pair(1, " ", {"made": ["only"]}),
        pair(2, "alone", {}),
        pair(3, "", {"made": []}),
    ]
    data = pairs_data(
        write_shard(tmp_path / "a.tar", samples),
        captions=[
            {"field": "txt", "probability": 0.5},
            {"field": "made", "probability": 0.5, "first": 2},
        ],
    )
    index = opened(tmp_path, data)
    assert index.captions_of(0) == [["original"], ["best", "second"]]
    assert index.report.bad == {"no caption (txt or made)": 1}
    n = 8000
    rows = np.tile(np.arange(3), n)
    u, v = np.random.default_rng(0).random((2, 3 * n))
    chosen = index.caption_rows(rows, u, v)
    texts = Counter(index.captions[row] for row in chosen[rows == 0])
    shares = {text: number / n for text, number in texts.items()}
    assert shares == pytest.approx({"original": 0.5, "best": 0.25, "second": 0.25}, abs=0.03)
    assert {index.captions[row] for row in chosen[rows == 1]} == {"only"}
    assert {index.captions[row] for row in chosen[rows == 2]} == {"alone"}
    assert index.caption_row(0, u[0], v[0]) == chosen[0]


def test_filters_see_metadata_text_and_size(tmp_path: Path) -> None:
    samples = [
        pair(1, metadata={"score": 6}),
        pair(2, metadata={"score": 4}),
        pair(3, metadata={"score": 6}, size=(20, 80)),
        pair(4, "x", metadata={"score": 6}),
        pair(5),
    ]
    rules = ["score >= 5", "min_side >= 32 and aspect == width / height", "len(txt) > 1"]
    data = pairs_data(
        write_shard(tmp_path / "a.tar", samples),
        filters=[{"keep": rule, "missing": "drop"} for rule in rules],
    )
    index = opened(tmp_path, data)
    assert keys(index) == ["1"]
    assert index.report.dropped == {rules[0]: 2, rules[1]: 1, rules[2]: 1}
    strict = data.model_copy(
        update={"filters": (data.filters[0].model_copy(update={"missing": "error"}),)}
    )
    with pytest.raises(ConfigError, match="pair 000000005"):
        opened(tmp_path, strict)


@pytest.mark.parametrize("distance,left", [(0, ["1", "2", "4", "5"]), (3, ["1", "4", "5"])])
def test_of_images_with_near_hashes_the_first_is_kept(
    tmp_path: Path, distance: int, left: list[str]
) -> None:
    first = write_shard(
        tmp_path / "a.tar",
        [pair(1, metadata={"h": "ff00ff00ff00ff00"}), pair(2, metadata={"h": "ff00ff00ff00ff01"})],
    )
    second = write_shard(
        tmp_path / "b.tar",
        [pair(3, metadata={"h": "ff00ff00ff00ff00"}), pair(4, metadata={"h": "no hash"}), pair(5)],
    )
    data = pairs_data(first, second, duplicates={"hash": "h", "distance": distance})
    index = opened(tmp_path, data)
    assert keys(index) == left
    assert index.report.duplicates == 5 - len(left)
    assert index.rows_of_source == [range(len(left) - 2), range(len(left) - 2, len(left))]


def test_hashes_of_pixels_find_copies_and_broken_images(tmp_path: Path) -> None:
    pytest.importorskip("imagehash")
    original = pixels(1, (300, 300))
    jpeg = encoded(original, "JPEG", quality=70)
    samples: list[Sample] = [
        ("original", {"png": encoded(original), "txt": b"a"}),
        ("copy", {"jpg": jpeg, "txt": b"b"}),
        ("other", {"png": make_image(2, (300, 300)), "txt": b"c"}),
        ("broken", {"jpg": jpeg[: len(jpeg) // 2], "txt": b"d"}),
    ]
    data = pairs_data(
        write_shard(tmp_path / "a.tar", samples), duplicates={"hash": "phash", "distance": 6}
    )
    index = opened(tmp_path, data)
    assert keys(index) == ["original", "other"]
    assert index.report.duplicates == 1
    assert index.report.bad == {"truncated or broken image": 1}


def test_every_kind_of_bad_sample_is_counted_and_skipped(tmp_path: Path) -> None:
    huge = bytearray(make_image(1))
    huge[16:24] = (60_000).to_bytes(4, "big") * 2  # the size in a PNG's header
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    jpeg = make_image(1, (200, 200), "JPEG")
    write_shard(
        tmp_path / "a.tar",
        [
            ("broken_json", {"png": make_image(1), "txt": b"x", "json": b"{"}),
            ("json_list", {"png": make_image(1), "txt": b"x", "json": b"[]"}),
            ("deep_json", {"png": make_image(1), "txt": b"x", "json": b"[" * 200_000}),
            ("no_caption", {"png": make_image(1)}),
            ("latin", {"png": make_image(1), "txt": "é".encode("latin-1")}),
            ("huge", {"png": bytes(huge), "txt": b"x"}),
            ("text", {"jpg": b"<html>", "txt": b"x"}),
            ("empty", {"jpg": b"", "txt": b"x"}),
            ("../up", {"png": make_image(1), "txt": b"x"}),
            ("bytes\udcff", {"png": make_image(1), "txt": b"x"}),
            ("nasty\x07", {"png": make_image(1), "txt": b"x", "json": b"{"}),
            ("late", {"jpg": jpeg[: len(jpeg) // 2], "txt": b"found when decoded"}),
            pair(1),
        ],
    )
    (tmp_path / "b.tar").write_bytes(b"")
    whole = write_shard(tmp_path / "c.tar", [pair(2), pair(3)]).read_bytes()
    (tmp_path / "c.tar").write_bytes(whole[: whole.index(b"000000003.png") + 700])
    lines: list[str] = []
    data = pairs_data(tmp_path / "*.tar", bad_share=0.9)
    index = opened(tmp_path, data, lines)
    assert keys(index) == ["late", "1", "2"]
    report = index.report
    assert report.bad == {
        "broken json": 3,
        "json is no object": 1,
        "no caption (txt)": 1,
        "text is not UTF-8": 1,
        "image over max_pixels": 1,
        "not a JPEG, PNG or WebP image": 1,
        "empty image": 1,
        "unsafe name": 1,
        "name is not UTF-8": 1,
        "empty file": 1,
        "tar cut short": 1,
    }
    dropped = sum(report.dropped.values())
    assert report.seen == report.kept + dropped + report.duplicates + sum(report.bad.values())
    assert "bad sample a.tar: huge: image over max_pixels" in lines
    assert "bad sample a.tar: nasty?: broken json (3 so far)" in lines
    assert all(line.isprintable() for line in lines)
    with pytest.raises(BadSampleError, match="truncated"):
        index.image(0)
    # The index that is there is held to a stricter budget as well.
    with pytest.raises(TooManyBadSamplesError, match=r"13 of 16 samples are bad .*share of 0.5"):
        opened(tmp_path, data.model_copy(update={"bad_share": 0.5}))


def test_a_name_need_not_be_printable_to_be_used(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/at 1\u202fPM.png").write_bytes(make_image(1))
    (tmp_path / "f/at 1\u202fPM.txt").write_text("x")
    index = opened(tmp_path, pairs_data({"source": "folder", "path": str(tmp_path / "f")}))
    assert index.image(0).shape == (3, 16, 16)
    assert index.name(0) == "f: at 1?PM.png"


def test_the_size_may_come_late_in_a_image(tmp_path: Path) -> None:
    data = encoded(pixels(1), "JPEG", icc_profile=bytes(100_000))
    shard = write_shard(tmp_path / "a.tar", [("0", {"jpg": data, "txt": b"x"})])
    assert opened(tmp_path, pairs_data(shard)).metadata(0)["width"] == 40


def test_fields_that_no_pair_has_are_named(tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "a.tar", [pair(0, metadata={"caption_long": "x", "phash8": "1"})]
    )
    captions = [
        {"field": "txt", "probability": 0.5},
        {"field": "captionlong", "probability": 0.5},
    ]
    with pytest.raises(
        ConfigError, match=r"captions\[1\].field: got 'captionlong'.*did you mean 'caption_long'"
    ):
        opened(tmp_path, pairs_data(shard, captions=captions))
    duplicates = {"hash": "phash_8", "distance": 0}
    with pytest.raises(ConfigError, match=r"duplicates.hash: got 'phash_8'.*mean 'phash8'"):
        opened(tmp_path, pairs_data(shard, duplicates=duplicates))


def test_a_source_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [pair(0), pair(1)])
    data = pairs_data(SHAPES, shard, filters=[{"keep": "width < 20", "missing": "drop"}])
    with pytest.raises(ConfigError, match=r"sources\[1\]: no pair of this source is left"):
        opened(tmp_path, data)


def test_an_index_is_made_once_and_anew_when_the_data_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_shard(tmp_path / f"{number}.tar", [pair(number)])
    data = pairs_data(tmp_path / "*.tar")
    first = opened(tmp_path, data)
    scanned: list[str] = []
    scan = Scanner._scanned

    def noted(self, part):
        scanned.append(part.name)
        return scan(self, part)

    monkeypatch.setattr(Scanner, "_scanned", noted)
    assert opened(tmp_path, data).fingerprint == first.fingerprint
    weights = pairs_data({"source": "shards", "urls": f"{tmp_path}/*.tar", "weight": 9.0})
    assert opened(tmp_path, weights).fingerprint == first.fingerprint
    assert scanned == []
    # Only what is new is scanned; the older index stays as it is.
    write_shard(tmp_path / "1.tar", [pair(11), pair(12)])
    write_shard(tmp_path / "3.tar", [pair(3)])
    second = opened(tmp_path, data)
    assert sorted(scanned) == ["1.tar", "3.tar"]
    assert second.fingerprint != first.fingerprint
    assert keys(second) == ["", "11", "12", "2", "3"]
    assert len(first) == 3
    assert opened(tmp_path, data.model_copy(update={"resolution": 8})).image(0).shape == (3, 8, 8)
    assert len(scanned) == 2


def test_shards_behind_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    for number in range(2):
        shard = write_shard(tmp_path / "x.tar", [pair(number)])
        memory.pipe(f"/web/{number}.tar?signature=1", shard.read_bytes())
    first = opened(tmp_path, pairs_data("memory://web/{0..1}.tar?signature=1"))
    assert [first.name(row) for row in range(2)] == ["0.tar: 000000000", "1.tar: 000000001"]
    assert first.image(1).shape == (3, 16, 16)
    # What is in the cache and in the index is not asked for again.
    memory.rm("/web", recursive=True)
    second = opened(tmp_path, pairs_data("memory://web/{0..1}.tar?signature=2"))
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.image(1), first.image(1))


def test_moving_the_data_changes_nothing(tmp_path: Path) -> None:
    write_shard(tmp_path / "here/a.tar", [pair(0)])
    first = opened(tmp_path, pairs_data(tmp_path / "here/a.tar"))
    (tmp_path / "here").rename(tmp_path / "there")
    second = opened(tmp_path, pairs_data(tmp_path / "there/a.tar"))
    assert second.fingerprint == first.fingerprint
    assert second.image(0).shape == (3, 16, 16)


_MAKER = """
import sys
from pathlib import Path
from nas_t2i.data.index import scan
from nas_t2i.data.index.pairs import open_index
from nas_t2i.protocol.data import PairsData
data = PairsData.model_validate_json(sys.argv[1])
scanned = scan.Scanner._scanned
def slow(self, part):
    if part.name == sys.argv[3]:
        print("waiting", flush=True)
        sys.stdin.read()
    return scanned(self, part)
scan.Scanner._scanned = slow
open_index(data, Path(sys.argv[2]), lambda line: None)
print("made", flush=True)
"""


def maker(tmp_path: Path, data, wait_at: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _MAKER, data.model_dump_json(), str(tmp_path / "index")]
    return subprocess.Popen(
        [*command, wait_at], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_killed_scan_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in range(6):
        write_shard(tmp_path / f"{number}.tar", [pair(number)])
    data = pairs_data(tmp_path / "*.tar")
    whole = open_index(data, tmp_path / "whole", lambda line: None)
    with maker(tmp_path, data, "5.tar") as process:
        assert process.stdout.readline() == "waiting\n"
        while len(list((tmp_path / "index/parts").glob("*.json"))) < 5:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    lines: list[str] = []
    index = opened(tmp_path, data, lines)
    assert lines[0] == "index: 6 parts, of which 5 were scanned before"
    assert content(index.folder) == content(whole.folder)


def test_one_process_makes_the_index_and_the_others_wait(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [pair(0)])
    data = pairs_data(tmp_path / "*.tar")
    with maker(tmp_path, data, "0.tar") as process:
        assert process.stdout.readline() == "waiting\n"
        lines: list[str] = []
        waiting = threading.Thread(target=opened, args=(tmp_path, data, lines))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        process.stdin.close()
        assert process.stdout.readline() == "made\n"
        waiting.join(10)
        assert not waiting.is_alive()
    assert lines == []


def test_the_index_stays_on_the_disk(tmp_path: Path) -> None:
    index = opened(tmp_path, pairs_data(SHAPES))
    assert isinstance(index._pairs, np.memmap)
    assert isinstance(index._choices, np.memmap)
    assert json.loads((index.folder / "index.json").read_text())["kept_of_source"] == [30]
