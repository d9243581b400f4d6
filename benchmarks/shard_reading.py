"""Images per second out of tar shards: JPEGs read, decoded and scaled, by threads and processes.

    python benchmarks/shard_reading.py [--images 512] [--side 512] [--resolution 256] [--rounds 3]

The images are read in a shuffled order. All ways are measured in every round, one after another,
on the same shards, which lie in the page cache; the ratio is to one process with one thread.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from nas_t2i.data.index.pairs import PairIndex, open_index
from nas_t2i.data.order import permute
from nas_t2i.protocol.data import PairsData

_SHARD = 128  # images


def make_shards(folder: Path, images: int, side: int) -> None:
    """Write JPEGs with the detail of a photograph: noise whose amplitude falls with frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) + 1 / side
    for shard in range(0, images, _SHARD):
        with tarfile.open(folder / f"{shard:06}.tar", "w") as tar:
            for number in range(shard, min(shard + _SHARD, images)):
                noise = np.fft.rfft2(rng.normal(size=(3, side, side)))
                values = np.fft.irfft2(noise / frequency**1.5, (side, side))
                values = 128 + 50 * values / values.std()
                stream = io.BytesIO()
                image = Image.fromarray(values.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
                image.save(stream, "JPEG", quality=90)
                members = {"jpg": stream.getvalue(), "txt": f"image {number}".encode()}
                for extension, content in members.items():
                    member = tarfile.TarInfo(f"{number:09}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


@cache
def opened(folder: Path, resolution: int) -> PairIndex:
    """The index of the shards, once for each process."""
    settings = {
        "source": "pairs",
        "sources": [{"source": "shards", "urls": f"{folder}/*.tar"}],
        "resolution": resolution,
        "captions": [{"field": "txt", "probability": 1.0}],
        "bad_share": 0.0,
        "cache": None,
    }
    data = PairsData.model_validate(settings)
    return open_index(data, folder / "index", lambda line: print(line, file=sys.stderr))


def read(folder: Path, resolution: int, rows: list[int]) -> int:
    """Decode the images of some rows; returns how many."""
    index = opened(folder, resolution)
    return sum(index.image(row).shape[0] == 3 for row in rows)


def speed(pool: Executor, workers: int, folder: Path, resolution: int) -> float:
    """Images a second when the workers share out the rows."""
    size = len(opened(folder, resolution))
    rows = permute(np.arange(size), size, 0, "benchmark").tolist()
    # Not counted: workers that start and open the index.
    list(pool.map(read, [folder] * workers, [resolution] * workers, [rows[:8]] * workers))
    begun = time.perf_counter()
    shares = [rows[worker::workers] for worker in range(workers)]
    done = sum(pool.map(read, [folder] * workers, [resolution] * workers, shares))
    return done / (time.perf_counter() - begun)


def main() -> None:
    """Print the median images per second of each way, and its ratio by round to the first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_shards(folder, options.images, options.side)
        kilobytes = sum(file.stat().st_size for file in folder.glob("*.tar")) / options.images / 1e3
        begun = time.perf_counter()
        opened(folder, options.resolution)
        seconds = time.perf_counter() - begun
        print(f"{os.cpu_count()} cores, JPEGs of {options.side} px and {kilobytes:.0f} kB")
        print(f"{options.images / seconds:8.0f} pairs/s scanned into the index")
        ways: dict[str, tuple[Executor, int]] = {
            "1 process, 1 thread": (ThreadPoolExecutor(1), 1),
            "1 process, 2 threads": (ThreadPoolExecutor(2), 2),
            "2 processes, 1 thread each": (ProcessPoolExecutor(2, mp_context=spawn), 2),
        }
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, (pool, workers) in ways.items():
                speeds[way].append(speed(pool, workers, folder, options.resolution))
        for pool, _ in ways.values():
            pool.shutdown()
    base = next(iter(speeds.values()))
    for way, measured in speeds.items():
        ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(measured, base, strict=True))
        print(f"{statistics.median(measured):8.0f} images/s  {way} (ratios {ratios})")


if __name__ == "__main__":
    main()
