"""Filling the cache: what is in it, and that cuts and company change nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_t2i.conditioning.prepare import CachedPairs, cached_pairs, plan, prepare
from nas_t2i.data.cache import entries as cache
from nas_t2i.data.cache.entries import read_latents, read_text
from nas_t2i.data.cache.shards import CacheError
from nas_t2i.data.images.bad_samples import TooManyBadSamplesError
from nas_t2i.errors import ConfigError
from nas_t2i.protocol.budget import Budget, load_budget
from tests.conditioning.tiny_pairs import (
    PIXELS,
    ROOT,
    SHAPES_TEXT,
    autoencoder,
    broken,
    clip_text,
    shapes_budget,
    shards_budget,
)
from tests.data.shard_maker import pair

SHARD = 4


@pytest.fixture(autouse=True)
def small_shards_and_own_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    monkeypatch.setattr(cache, "IMAGES_PER_SHARD", SHARD)
    monkeypatch.setattr(cache, "CAPTIONS_PER_SHARD", SHARD)
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path_factory.getbasetemp() / "nas-t2i"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def content(budget: Budget) -> CachedPairs:
    return cached_pairs(budget, lambda _: None)


def shard_files(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Of each shard: its inode, its time of change, its bytes."""
    files = sorted((folder / "cache").glob("*-*/*.safetensors"))
    found = {}
    for file in files:
        status = file.stat()
        name = f"{file.parent.name}/{file.name}"
        found[name] = (status.st_ino, status.st_mtime_ns, file.read_bytes())
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (_, _, data) in shard_files(folder).items()}


# --- what is in it ---------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["zero", "keep"])
@pytest.mark.parametrize("posterior", ["sample", "mean"])
def test_the_cache_holds_what_the_encoders_give(
    tmp_path: Path, padding: str, posterior: str
) -> None:
    budget = shards_budget(
        tmp_path,
        text=clip_text(tmp_path, padding=padding),
        latents=autoencoder(tmp_path, posterior=posterior),
    )
    prepare(budget)
    found = content(budget)
    codec = budget.latents.load()
    images = torch.from_numpy(np.stack([found.index.image(row) for row in range(20)]))
    mean, std = codec.moments(images)
    latents = read_latents(found.latents, np.arange(20))
    assert latents.good.all()
    torch.testing.assert_close(torch.from_numpy(latents.mean), mean, rtol=1e-3, atol=1e-5)
    if posterior == "sample":
        assert latents.std is not None
        assert std is not None
        torch.testing.assert_close(torch.from_numpy(latents.std), std, rtol=1e-3, atol=1e-6)
    else:
        assert latents.std is None

    texts = [found.index.captions[row] for row in range(len(found.index.captions))] + [""]
    features = budget.text.load(tmp_path).encode(texts)
    stored = torch.from_numpy(read_text(found.text, np.arange(len(texts))))
    torch.testing.assert_close(stored, features, rtol=1e-3, atol=1e-4)


def test_distinct_captions_are_encoded_once(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path)  # 20 pairs, 7 captions
    done: list[tuple[str, int, int]] = []
    prepare(budget, progress=lambda what, now, total: done.append((what, now, total)))
    assert [now for what, now, _ in done if what == "captions"] == [4, 8]
    assert done[-1] == ("images", 20, 20)
    assert {total for what, _, total in done if what == "captions"} == {7 + 1}


def test_the_plan_is_the_size(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path, text=clip_text(tmp_path, padding="keep"))
    found = plan(budget)
    prepare(budget)
    assert (found.pairs, found.captions) == (20, 7)
    sizes = {"latents": 0, "text": 0}
    for name, (_, _, data) in shard_files(tmp_path).items():
        sizes[name.partition("-")[0]] += len(data)
    # Besides the numbers there are a header, offsets and marks.
    assert found.latent_bytes < sizes["latents"] < found.latent_bytes + 5 * 400
    assert found.text_bytes < sizes["text"] < found.text_bytes + 2 * 400


def test_bad_images_are_marked_and_counted(tmp_path: Path) -> None:
    samples = [broken(n) if n in (2, 5) else pair(n) for n in range(10)]
    said: list[str] = []
    budget = shards_budget(tmp_path, samples, bad_share=0.2)
    prepare(budget, say=said.append)
    found = content(budget)
    good = read_latents(found.latents, np.arange(10)).good
    assert np.flatnonzero(~good).tolist() == [2, 5]
    record = (found.latents.folder / "cache.json").read_text()
    assert '"bad": {' in record
    assert any("00000.tar: 000000002: truncated" in line for line in said)


def test_too_many_bad_images_leave_the_cache_unfinished(tmp_path: Path) -> None:
    samples = [broken(n) if n in (2, 5) else pair(n) for n in range(10)]
    budget = shards_budget(tmp_path, samples, bad_share=0.1)
    for _ in range(2):  # the second one decodes nothing, and must know all the same
        with pytest.raises(TooManyBadSamplesError, match="2 of 10 samples are bad"):
            prepare(budget)
        with pytest.raises(CacheError, match="unfinished: 3 of 3 shards of latents"):
            content(budget).latents.check()


# --- cut and continued, and many at once -----------------------------------------------------

_CHILD = """
import sys, time, torch
torch.set_num_threads(1)
from nas_t2i.conditioning import prepare
from nas_t2i.data.cache import entries as cache
from nas_t2i.protocol.budget import Budget
cache.IMAGES_PER_SHARD = cache.CAPTIONS_PER_SHARD = {shard}
make = prepare._fill
def told(part, make, done, say):
    def making(shard):
        print("making", part.file(shard), flush=True)
        make(shard)
        print("made", part.file(shard), flush=True)
    fill(part, making, done, say)
fill, prepare._fill = prepare._fill, told
def progress(*_): time.sleep({pause})
print("ready", flush=True)
sys.stdin.readline()
prepare.prepare(Budget.model_validate_json(sys.argv[1]), progress=progress)
"""


def child(budget: Budget, pause: float) -> subprocess.Popen[str]:
    """A process that prepares, slowly, once it is told to; it says what it makes."""
    code = _CHILD.format(shard=SHARD, pause=pause)
    process = subprocess.Popen(
        [sys.executable, "-c", code, budget.model_dump_json()],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def made(output: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in output.splitlines() if line.startswith("made ")]


def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    prepare(shapes_budget(tmp_path / "whole"))
    budget = shapes_budget(tmp_path / "cut")
    with child(budget, pause=0.05) as process:
        begin(process)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("making") and "latents" in line and "000005" in line:
                break
        process.send_signal(signal.SIGKILL)
    before = shard_files(tmp_path / "cut")
    assert "000004.safetensors" in " ".join(before)
    assert len(before) < len(contents(tmp_path / "whole"))
    # What a writer leaves that dies between its first byte and its last.
    latents = content(budget).latents
    torn = latents.folder / ".000005.safetensors.torn"
    torn.write_bytes(b"half")

    prepare(budget)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    after = shard_files(tmp_path / "cut")
    assert {name: after[name] for name in before} == before  # the very files
    assert not torn.exists()
    latents.check()


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    prepare(shapes_budget(tmp_path / "alone"))
    budget = shapes_budget(tmp_path / "both")
    with child(budget, pause=0.1) as one, child(budget, pause=0.1) as two:
        begin(one)
        begin(two)
        outputs = [process.communicate()[0] for process in (one, two)]
        assert (one.returncode, two.returncode) == (0, 0)
    shares = [made(output) for output in outputs]
    assert all(shares)
    together = shares[0] + shares[1]
    assert len(together) == len(set(together)) == len(contents(tmp_path / "alone"))
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")


def test_a_complete_cache_is_left_as_it_is(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path)
    prepare(budget)
    before = shard_files(tmp_path)
    prepare(budget)
    assert shard_files(tmp_path) == before


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path)
    prepare(budget)
    before = contents(tmp_path)
    file = content(budget).latents.file(2)
    file.write_bytes(file.read_bytes()[:-1])
    said: list[str] = []
    prepare(budget, say=said.append)
    assert contents(tmp_path) == before
    assert any(f"{file}: a damaged shard; it is made again" in line for line in said)


# --- another budget's cache ------------------------------------------------------------------


def test_another_text_encoder_leaves_the_latents(tmp_path: Path) -> None:
    first = shards_budget(tmp_path)
    prepare(first)
    before = shard_files(tmp_path)
    second = shards_budget(tmp_path, text=clip_text(tmp_path, seed=1))
    with pytest.raises(CacheError, match=r"text made with the text encoder \S+, the budget asks"):
        content(second).text.check()
    content(second).latents.check()

    said: list[str] = []
    prepare(second, say=said.append)
    after = shard_files(tmp_path)
    assert {name: after[name] for name in before} == before
    unused = content(first).text.folder.name
    assert any(f"{unused} is not used by this budget" in line for line in said)
    content(first).text.check()  # one folder serves both


def test_another_codec_is_refused_by_name(tmp_path: Path) -> None:
    budget = shards_budget(tmp_path)
    prepare(budget)
    other = shards_budget(tmp_path, latents=autoencoder(tmp_path, scale=0.13025))
    names = [b.latents.load().fingerprint for b in (budget, other)]
    with pytest.raises(CacheError) as caught:
        content(other).latents.check()
    assert f"with the codec {names[0]}, the budget asks for {names[1]}" in str(caught.value)


def test_other_pairs_are_refused(tmp_path: Path) -> None:
    prepare(shapes_budget(tmp_path, scenes=8))
    with pytest.raises(CacheError, match="latents made from the pairs"):
        content(shapes_budget(tmp_path, scenes=9)).latents.check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cache": None}, "data.cache: got null.*expected the folder of the cache"),
        ({"cache": "$NO_SUCH_NAME/cache"}, "data.cache: .*NO_SUCH_NAME is not set"),
        ({"resolution": 17}, "data.resolution: .*multiples of 2"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    budget = shapes_budget(tmp_path, **changes)
    with pytest.raises(ConfigError, match=words):
        prepare(budget)
    assert not (tmp_path / "cache").exists()


def test_the_embedded_data_set_has_no_cache() -> None:
    with pytest.raises(ConfigError, match=r"data\.source: got 'shapes'"):
        prepare(load_budget(ROOT / "budgets/embedded.yaml"))


def test_the_cheap_encoders_can_be_cached(tmp_path: Path) -> None:
    budget = shapes_budget(tmp_path, scenes=6, text=SHAPES_TEXT, latents=PIXELS, workers=0)
    prepare(budget)
    found = content(budget)
    assert read_latents(found.latents, np.arange(6)).std is None
    assert read_text(found.text, np.array([0])).shape == (1, 12, 16)
