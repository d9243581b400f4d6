"""Users' own pairs as training reads them: a function of (seed, number), cached or on line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_t2i.conditioning.prepare import cached_pairs, prepare
from nas_t2i.data.cache import entries as cache
from nas_t2i.data.cache.entries import read_latents
from nas_t2i.data.cache.shards import CacheError
from nas_t2i.data.images.bad_samples import TooManyBadSamplesError
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget
from nas_t2i.streams import normal_rows
from nas_t2i.training.feeds import pairs as feeds
from nas_t2i.training.feeds.pairs import PairsInputs
from tests.conditioning.tiny_pairs import PIXELS, broken, clip_text, shapes_budget, shards_budget
from tests.data.shard_maker import pair


@pytest.fixture(autouse=True)
def small_shards_and_own_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    monkeypatch.setattr(cache, "IMAGES_PER_SHARD", 4)
    monkeypatch.setattr(cache, "CAPTIONS_PER_SHARD", 4)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path_factory.getbasetemp() / "nas-t2i"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_line(budget: Budget) -> Budget:
    return budget.model_copy(update={"data": budget.data.model_copy(update={"cache": None})})


def inputs(budget: Budget, folder: Path, **options: Any) -> PairsInputs:
    return PairsInputs(
        budget,
        folder,
        lambda: budget.text.load(folder),
        lambda: budget.latents.load(),
        **options,
    )


def both(budget: Budget, folder: Path, **options: Any) -> tuple[PairsInputs, PairsInputs]:
    prepare(budget)
    return inputs(budget, folder, **options), inputs(on_line(budget), folder, **options)


def lossless(folder: Path, samples: list[Any], **changes: Any) -> Budget:
    """A budget whose latents tell which image they are of."""
    return shards_budget(folder, samples, text=clip_text(folder), latents=PIXELS, **changes)


def rows_of(feed_latents: torch.Tensor, budget: Budget) -> list[int]:
    """Which row of the index each latent is of."""
    found = cached_pairs(budget, lambda _: None)
    known = torch.from_numpy(read_latents(found.latents, np.arange(len(found.index))).mean)
    distance = torch.cdist(feed_latents.flatten(1).cpu(), known.flatten(1))
    assert float(distance.min(dim=1).values.max()) < 0.05
    return distance.argmin(dim=1).tolist()


# --- the same, wherever it comes from --------------------------------------------------------


@pytest.mark.parametrize("padding", ["zero", "keep"])
def test_cache_and_encoders_give_the_same_samples(tmp_path: Path, padding: str) -> None:
    budget = shards_budget(tmp_path, text=clip_text(tmp_path, padding=padding))
    cached, online = both(budget, tmp_path)
    assert cached.fingerprints == online.fingerprints
    assert cached.latent_shape == online.latent_shape == (4, 4, 4)
    torch.testing.assert_close(cached.null_text, online.null_text, rtol=1e-3, atol=1e-3)
    one, other = cached.make_feed(7).samples(15, 30), online.make_feed(7).samples(15, 30)
    assert one.x0.shape == (30, 4, 4, 4)
    assert one.text.shape == (30, 20, 32)
    assert one.x0.dtype == one.text.dtype == torch.float32
    torch.testing.assert_close(one.x0, other.x0, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(one.text, other.text, rtol=1e-3, atol=1e-3)
    here, there = cached.make_feed(7).held_out(3), online.make_feed(7).held_out(3)
    assert here[1] == there[1]
    torch.testing.assert_close(here[0].x0, there[0].x0, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(here[0].text, there[0].text, rtol=1e-3, atol=1e-3)


def test_calls_may_be_split_anyhow(tmp_path: Path) -> None:
    samples = [broken(n) if n in (2, 5) else pair(n, f"number {n}") for n in range(20)]
    cached, online = both(shards_budget(tmp_path, samples, bad_share=0.5), tmp_path)
    for source, tolerance in ((cached, 0.0), (online, 1e-5)):
        feed = source.make_feed(1)
        whole = feed.samples(30, 8)
        parts = [source.make_feed(1).samples(34, 4), feed.samples(30, 1), feed.samples(31, 3)]
        parts = [*parts[1:], parts[0]]
        for name in ("x0", "text"):
            together = torch.cat([getattr(part, name) for part in parts])
            torch.testing.assert_close(
                together, getattr(whole, name), rtol=tolerance, atol=tolerance
            )


def test_the_latent_is_drawn_anew_from_the_posterior(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path, held_out=2)
    prepare(budget)
    feed = inputs(budget, tmp_path).make_feed(4)
    found = cached_pairs(budget, lambda _: None)
    whole = read_latents(found.latents, np.arange(20))
    assert whole.std is not None
    samples = feed.samples(0, 36).x0.numpy()  # two epochs of the 18 that are not held out
    draws = normal_rows(4, "posterior", 0, 36, 64).reshape(36, 4, 4, 4)
    candidates = whole.mean[None] + whole.std[None] * draws[:, None]
    distance = np.abs(candidates - samples[:, None]).max(axis=(2, 3, 4))
    rows = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1e-6
    assert sorted(rows[:18]) == sorted(rows[18:])
    assert len(set(rows[:18])) == 18


def test_the_mean_is_taken_where_the_budget_says_so(tmp_path: Path) -> None:
    budget = lossless(tmp_path, [pair(n) for n in range(9)], held_out=2)
    prepare(budget)
    feed = inputs(budget, tmp_path).make_feed(0)
    epochs = [feed.samples(first, 7).x0 for first in (0, 7)]
    by_row = [x0[np.argsort(rows_of(x0, budget))] for x0 in epochs]
    assert torch.equal(by_row[0], by_row[1])


def test_seeds_order_the_same_pairs_differently(tmp_path: Path) -> None:
    budget = lossless(tmp_path, [pair(n) for n in range(30)])
    prepare(budget)
    source = inputs(budget, tmp_path)
    one, other = (rows_of(source.make_feed(seed).samples(0, 28).x0, budget) for seed in (0, 1))
    assert one != other
    assert sorted(one) == sorted(other)


# --- captions --------------------------------------------------------------------------------


def test_a_pair_has_its_own_caption_unless_the_control_shuffles_them(tmp_path: Path) -> None:
    budget = lossless(tmp_path, [pair(n, f"number {n}") for n in range(20)])
    cached, _ = both(budget, tmp_path)
    captions = [f"number {n}" for n in range(20)]
    features = budget.text.load(tmp_path).encode(captions)

    def captions_of(text: torch.Tensor) -> list[int]:
        distance = torch.cdist(text.flatten(1), features.flatten(1))
        assert float(distance.min(dim=1).values.max()) < 0.1
        return distance.argmin(dim=1).tolist()

    samples = cached.make_feed(0).samples(0, 18)
    rows = rows_of(samples.x0, budget)
    assert captions_of(samples.text) == rows
    control = inputs(budget, tmp_path, shuffle_captions=True)
    shuffled = control.make_feed(0).samples(0, 18)
    assert torch.equal(shuffled.x0, samples.x0)
    others = captions_of(shuffled.text)
    assert len(set(others)) == 18
    assert sum(a == b for a, b in zip(rows, others, strict=True)) < 6
    assert control.make_feed(0).held_out(0)[1] == cached.make_feed(0).held_out(0)[1]


def test_the_empty_caption_is_the_encoders(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path)
    for source in both(budget, tmp_path):
        expected = budget.text.load(tmp_path).encode([""])[0]
        torch.testing.assert_close(source.null_text, expected, rtol=1e-3, atol=1e-3)
        assert torch.equal(source.make_feed(0).null_text, source.null_text)


# --- bad images ----------------------------------------------------------------------------


def test_bad_images_are_replaced_and_never_by_held_out_ones(tmp_path: Path) -> None:
    bad = {3, 8, 11}
    samples = [broken(n) if n in bad else pair(n) for n in range(16)]
    budget = lossless(tmp_path, samples, bad_share=0.5, held_out=4)
    cached, online = both(budget, tmp_path)
    rows = [rows_of(s.make_feed(0).samples(0, 96).x0, budget) for s in (cached, online)]
    assert rows[0] == rows[1]
    held, _ = cached.make_feed(0).held_out(0)
    held_rows = rows_of(held.x0, budget)
    assert not set(held_rows) & set(rows[0])
    assert not bad & (set(held_rows) | set(rows[0]))
    assert len(held_rows) == 4
    # Where nothing was bad, nothing changed: whole epochs of the good ones are there.
    assert set(rows[0]) | set(held_rows) == set(range(16)) - bad


def test_a_bad_held_out_image_gives_its_place_to_the_next(tmp_path: Path) -> None:
    samples = [pair(n) for n in range(8)]
    budget = lossless(tmp_path, samples, held_out=3)
    prepare(budget)
    rows = rows_of(inputs(budget, tmp_path).make_feed(0).held_out(0)[0].x0, budget)
    (other := tmp_path / "other").mkdir()
    samples = [broken(n) if n == rows[1] else pair(n) for n in range(8)]
    budget = lossless(other, samples, held_out=3, bad_share=0.5)
    for source in both(budget, other):
        found = rows_of(source.make_feed(0).held_out(0)[0].x0, budget)
        assert found == [rows[0], rows[2], rows[2]]


def test_too_many_bad_images_stop_a_run_on_line(tmp_path: Path) -> None:
    samples = [broken(n) if n < 3 else pair(n) for n in range(8)]  # of these two are held out
    source = inputs(on_line(lossless(tmp_path, samples, bad_share=0.0)), tmp_path)
    with pytest.raises(TooManyBadSamplesError, match="truncated"):
        source.make_feed(0).samples(0, 8)


def test_no_good_image_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_ATTEMPTS", 20)
    budget = lossless(tmp_path, [broken(n) for n in range(6)], bad_share=0.99)
    feed = inputs(on_line(budget), tmp_path).make_feed(0)
    with pytest.raises(ConfigError, match="no good image among"):
        feed.samples(0, 2)
    with pytest.raises(ConfigError, match="none of the 2 held-out images"):
        feed.held_out(0)


# --- what is refused -------------------------------------------------------------------------


def test_too_few_pairs_to_hold_some_out(tmp_path: Path) -> None:
    budget = lossless(tmp_path, [pair(n) for n in range(4)], held_out=4)
    for changed in (budget, on_line(budget)):
        if changed is budget:
            prepare(budget)
        with pytest.raises(ConfigError, match="got 4 pairs, of which 4"):
            inputs(changed, tmp_path)


def test_a_cache_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    budget = shapes_budget(tmp_path)
    with pytest.raises(CacheError, match="no such folder; run: nas-t2i data prepare"):
        inputs(budget, tmp_path)
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").mkdir()
    with pytest.raises(CacheError, match="no latents are there; run: nas-t2i data prepare"):
        inputs(budget, tmp_path)
    prepare(budget)
    inputs(budget, tmp_path)
    cached_pairs(budget, lambda _: None).text.file(0).unlink()
    with pytest.raises(CacheError, match=r"unfinished: .* shards of text are there"):
        inputs(budget, tmp_path)


# --- image-noun pairs ------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
def test_image_noun_pairs_on_record_are_those_of_what_is_trained_on(
    tmp_path: Path, shuffle: bool
) -> None:
    pytest.importorskip("textblob")
    texts = ["a dog", "a dog and a cat", "a dog, a cat and a ball"]
    samples = [pair(n, texts[n % 3]) for n in range(20)]
    budget = on_line(shards_budget(tmp_path, samples, latents=PIXELS, text=clip_text(tmp_path)))
    uncounted = inputs(budget, tmp_path)
    assert uncounted.training_set.image_noun_pairs is None
    assert uncounted.make_feed(0).image_noun_pairs_seen(5) is None
    said: list[str] = []
    feeds.check_pairs(budget, tmp_path, said.append)
    assert not [line for line in said if "noun" in line]
    found = inputs(budget, tmp_path, shuffle_captions=shuffle)
    index, order = found._encodings.index, found._order
    nouns = np.array([1 + texts.index(index.captions_of(row)[0][0]) for row in range(20)])
    assert found.training_set.images == 18 and found.training_set.captions == 18
    assert found.training_set.image_noun_pairs == nouns.sum() - nouns[order.held_out_rows()].sum()
    feed = found.make_feed(4)
    for count in (0, 1, 7, 18, 1500):
        rows = np.unique(order.rows(4, 0, count)) if count else np.array([], dtype=np.int64)
        if shuffle and count:
            rows = feeds.permute(rows, 20, 0, "shuffled captions")
        assert feed.image_noun_pairs_seen(count) == nouns[rows].sum()
