"""The store of encoded pairs: rows come back as they went in, and what is not right is refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from nas_t2i.data.cache import entries as cache
from nas_t2i.data.cache.entries import (
    LatentRows,
    LatentsIdentity,
    Part,
    TextIdentity,
    bad_rows,
    latents_identity,
    read_latents,
    read_text,
    text_identity,
    unused_parts,
    write_latents,
    write_text,
)
from nas_t2i.data.cache.shards import CacheError, to_half

SHAPE = (2, 3, 3)
TOKENS, WIDTH = 5, 4


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "IMAGES_PER_SHARD", 4)
    monkeypatch.setattr(cache, "CAPTIONS_PER_SHARD", 4)


def latents_of(folder: Path, count: int = 10, **changes: Any) -> Part[LatentsIdentity]:
    facts = {"pairs": "pairs-1", "codec": "codec-1", "posterior": "sample", "resolution": 12}
    return Part(folder, latents_identity(count=count, shape=SHAPE, **facts | changes))


def text_of(folder: Path, captions: int = 9, **changes: Any) -> Part[TextIdentity]:
    facts = {"pairs": "pairs-1", "encoder": "encoder-1", "tokens": TOKENS, "width": WIDTH}
    return Part(folder, text_identity(captions=captions, **facts | changes))


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Random numbers that float16 holds exactly."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return values.astype(np.float16).astype(np.float32)


def written_latents(part: Part[LatentsIdentity], bad: dict[int, str] | None = None) -> LatentRows:
    """Fill a part; returns all its rows."""
    bad = bad or {}
    part.folder.mkdir(parents=True)
    count = part.identity.count
    good = np.array([row not in bad for row in range(count)])
    std = numbers(2, count, *SHAPE) if part.identity.posterior == "sample" else None
    whole = LatentRows(numbers(1, count, *SHAPE), std, good)
    for shard in range(part.identity.shards):
        rows = part.identity.rows(shard)
        cut = slice(rows.start, rows.stop)
        here = LatentRows(whole.mean[cut], None if std is None else std[cut], good[cut])
        write_latents(part, shard, here, {row: bad[row] for row in rows if row in bad})
    return whole


def written_text(part: Part[TextIdentity], lengths: list[int]) -> list[np.ndarray]:
    part.folder.mkdir(parents=True)
    features = [numbers(row, length, WIDTH) for row, length in enumerate(lengths)]
    for shard in range(part.identity.shards):
        write_text(part, shard, [features[row] for row in part.identity.rows(shard)])
    return features


# --- rows ------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_latents_come_back_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 13))
    posterior = data.draw(st.sampled_from(["sample", "mean"]))
    part = latents_of(tmp_path_factory.mktemp("cache"), count, posterior=posterior)
    whole = written_latents(part)
    rows = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=9)), dtype=np.int64)
    found = read_latents(part, rows)
    assert found.mean.dtype == np.float32
    np.testing.assert_array_equal(found.mean, whole.mean[rows])
    assert (found.std is None) == (posterior == "mean")
    if found.std is not None and whole.std is not None:
        np.testing.assert_array_equal(found.std, whole.std[rows])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, TOKENS), min_size=1, max_size=10), st.data())
def test_text_comes_back_with_zeros_after_its_end(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], data: st.DataObject
) -> None:
    part = text_of(tmp_path_factory.mktemp("cache"), captions=len(lengths) - 1)
    features = written_text(part, lengths)
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9))
    found = read_text(part, np.array(rows))
    assert found.shape == (len(rows), TOKENS, WIDTH)
    for row, seen in zip(rows, found, strict=True):
        np.testing.assert_array_equal(seen[: lengths[row]], features[row])
        assert not seen[lengths[row] :].any()


def test_padding_takes_no_space(tmp_path: Path) -> None:
    part = text_of(tmp_path)
    written_text(part, [1] * 10)
    assert sum(len(load_file(part.file(n))["tokens"]) for n in range(3)) == 10
    assert part.identity.most_bytes == 10 * TOKENS * WIDTH * 2


def test_bad_images_are_told_with_their_reasons(tmp_path: Path) -> None:
    part = latents_of(tmp_path)
    written_latents(part, bad={5: "truncated image", 6: "no image"})
    assert read_latents(part, np.arange(10)).good.tolist() == [n not in (5, 6) for n in range(10)]
    assert [bad_rows(part, n) for n in range(3)] == [
        {},
        {5: "truncated image", 6: "no image"},
        {},
    ]


def test_wide_rows_make_short_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row_bytes = 2 * 2 * 18  # mean and std in float16
    monkeypatch.setattr(cache, "SHARD_BYTES", 3 * row_bytes + 1)
    assert latents_of(tmp_path).identity.shard_rows == 3
    monkeypatch.setattr(cache, "SHARD_BYTES", 1)
    assert latents_of(tmp_path).identity.shard_rows == 1


def test_a_number_that_float16_cannot_hold_is_refused() -> None:
    largest = float(np.finfo(np.float16).max)
    assert to_half(np.array([largest], np.float32), "x")[0] == largest
    for value in (1e5, np.inf, np.nan):
        with pytest.raises(CacheError, match=r"codec-1: latents.*expected numbers that float16"):
            to_half(np.array([1.0, value], np.float32), "codec-1: latents")


def test_reading_a_row_reads_little_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "IMAGES_PER_SHARD", 100_000)
    part = latents_of(tmp_path, count=100_000)
    written_latents(part)
    size = part.file(0).stat().st_size
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    tracemalloc.start()
    read_latents(part, np.array([0, 99_999]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 50
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files


# --- damaged shards --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_shard_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    part = latents_of(tmp_path_factory.mktemp("cache"))
    written_latents(part)
    content = part.file(1).read_bytes()
    part.file(1).write_bytes(content[: int(share * len(content))])
    assert not part.is_sound(1)
    assert part.is_sound(0)
    read_latents(part, np.array([0, 9]))
    with pytest.raises(CacheError, match=r"000001.safetensors: a damaged shard .*data prepare"):
        read_latents(part, np.array([0, 4]))


@settings(max_examples=80, deadline=None)
@given(place=st.integers(0, 300), byte=st.integers(0, 255))
def test_a_shard_with_a_spoilt_header_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    part = latents_of(tmp_path_factory.mktemp("cache"), count=2)
    written_latents(part, bad={0: "no image"})
    content = bytearray(part.file(0).read_bytes())
    content[place] = byte
    part.file(0).write_bytes(content)
    try:
        assert read_latents(part, np.array([1])).mean.shape == (1, *SHAPE)
        bad_rows(part, 0)
    except CacheError as error:
        assert "000000.safetensors" in str(error)


def test_a_shard_of_another_layout_is_refused(tmp_path: Path) -> None:
    part = latents_of(tmp_path)
    written_latents(part)
    tensors = load_file(part.file(0))
    save_file(tensors | {"mean": tensors["mean"][:, :1]}, part.file(0))
    with pytest.raises(CacheError, match=r"holds .*'mean': \(4, 1, 3, 3\)"):
        read_latents(part, np.array([0]))


def test_offsets_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    part = text_of(tmp_path)
    written_text(part, [2] * 10)
    tensors = load_file(part.file(0))
    for offsets in ([0, 2, 4, 6, 99], [0, 2, 4, 6, -2], [-2, 2, 4, 6, 8]):
        save_file(tensors | {"offsets": np.array(offsets)}, part.file(0))
        with pytest.raises(CacheError, match="no rows"):
            read_text(part, np.array([0, 3]))


# --- complete, unfinished, foreign -----------------------------------------------------------


def test_a_complete_part_passes(tmp_path: Path) -> None:
    part = latents_of(tmp_path)
    written_latents(part, bad={1: "no image"})
    part.finish({"no image": 1})
    part.check()
    record = json.loads((part.folder / "cache.json").read_text())
    assert record["bad"] == {"no image": 1}
    assert record["identity"]["codec"] == "codec-1"


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"no latents are there; run: nas-t2i data prepare BUDGET"):
        latents_of(tmp_path).check()


def test_an_unfinished_part_says_how_far_it_is(tmp_path: Path) -> None:
    part = latents_of(tmp_path)
    written_latents(part)
    with pytest.raises(CacheError, match="unfinished: 3 of 3 shards of latents"):
        part.check()
    part.finish({})
    part.file(1).unlink()
    with pytest.raises(CacheError, match="unfinished: 2 of 3 shards of latents"):
        part.check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codec": "codec-2"}, "with the codec codec-1, the budget asks for codec-2"),
        ({"pairs": "pairs-2", "codec": "codec-2"}, "from the pairs pairs-1, .* pairs-2"),
        ({"resolution": 24}, "at the resolution 12, the budget asks for 24"),
        ({"posterior": "mean"}, "for the posterior sample, the budget asks for mean"),
    ],
)
def test_foreign_latents_are_refused_by_what_differs(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    part = latents_of(tmp_path)
    written_latents(part)
    part.finish({})
    with pytest.raises(CacheError, match=f"latents made {words}; run: .*data.cache"):
        latents_of(tmp_path, **change).check()


def test_foreign_text_is_refused_and_the_nearest_part_is_named(tmp_path: Path) -> None:
    for pairs, encoder in (("pairs-9", "encoder-9"), ("pairs-1", "encoder-8")):
        part = text_of(tmp_path, pairs=pairs, encoder=encoder)
        written_text(part, [1] * 10)
        part.finish({})
    with pytest.raises(CacheError, match="text encoder encoder-8, the budget asks for encoder-1"):
        text_of(tmp_path).check()


def test_another_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = latents_of(tmp_path)
    written_latents(part)
    part.finish({})
    monkeypatch.setattr(cache, "_VERSION", 2)
    with pytest.raises(CacheError, match=r"another release of nas-t2i \(layout 1, this one: 2\)"):
        latents_of(tmp_path).check()


def test_an_unreadable_record_is_refused_by_name(tmp_path: Path) -> None:
    part = latents_of(tmp_path)
    written_latents(part)
    for content in ("{", "{}", '{"identity": {"part": "latents"}, "bad": {}}'):
        (part.folder / "cache.json").write_text(content)
        with pytest.raises(CacheError, match=r"cache\.json"):
            latents_of(tmp_path, codec="codec-2").check()


def test_parts_that_a_budget_does_not_use_are_found(tmp_path: Path) -> None:
    used, other = latents_of(tmp_path), latents_of(tmp_path, codec="codec-2")
    written_latents(used)
    written_latents(other)
    (tmp_path / "index").mkdir()
    assert unused_parts(tmp_path, [used.folder]) == [other.folder]
