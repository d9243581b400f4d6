"""Latencies are measured in a process of its own, once a study, and never mixed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from nas_t2i.arch.catalog import lookup
from nas_t2i.arch.space import load_space
from nas_t2i.errors import ConfigError, IncomparableError, UserError
from nas_t2i.logs.sealed import SealedLog
from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.search.beforehand.latencies import (
    LATENCIES_FILE,
    Latencies,
    LatencyRow,
    open_latencies,
    read_rows,
)
from nas_t2i.search.beforehand.stopwatch import Stopwatch
from nas_t2i.search.beforehand.timing import all_beforehand, time_all, time_included
from nas_t2i.search.session import make_factory
from tests.training.tiny import tiny_arch, tiny_budget

QUICK = LatencySettings(
    device="cpu", dtype="fp32", threads=1, latent_size=8, text_tokens=4, seconds=0.01
)
SPACE = """
name: three
family: unet
parameters:
  channels: {choice: [64, 128, 192]}
  channel_mult: [1, 2]
  res_blocks: 1
  transformer_depth: {2: 1}
include:
  - {name: base, family: unet, channels: 64, channel_mult: [1, 2], res_blocks: 1,
     transformer_depth: {2: 1}}
"""


def space_with(folder: Path, limits: str = "{}"):
    (folder / "space.yaml").write_text(f"{SPACE}limits: {limits}\n")
    return load_space(folder / "space.yaml")


def rewrite(file: Path, **changes: object) -> str:
    """Write the rows of a file anew, as another machine would have; return this one's name."""
    rows = read_rows(file)
    file.unlink()
    with SealedLog(file) as log:
        for row in rows:
            other = row.model_copy(update={"latency": row.latency.model_copy(update=changes)})
            log.append_line(other.model_dump_json().encode(), durable=True)
    return rows[0].latency.hardware


def test_an_architecture_is_measured_once_a_study(tmp_path: Path) -> None:
    said: list[str] = []
    arch = tiny_arch()
    with Latencies(QUICK, tmp_path, said.append) as timed:
        found = timed.of(arch, "small")
        assert found.conditions == timed.here
        assert 0 < found.first_quartile_s <= found.median_s <= found.third_quartile_s
        assert not (tmp_path / LATENCIES_FILE).exists()
        timed.keep()
        assert read_rows(tmp_path / LATENCIES_FILE) == [
            LatencyRow(arch_id=arch.arch_id, name="small", latency=found)
        ]
        process = timed._stopwatch._process
        assert process is not None and process.poll() is None
        timed.close()
        assert process.poll() is not None
    assert "latency is measured before anything trains: a pass of batch 1 of 8x8" in said[0]
    assert said[1].startswith("latency of small: ") and len(said) == 2
    with Latencies(QUICK, tmp_path, said.append) as again:
        again.keep()
        assert again.of(arch, "small") == found and again._stopwatch._process is None
    assert len(said) == 2 and len(read_rows(tmp_path / LATENCIES_FILE)) == 1

    file = tmp_path / LATENCIES_FILE
    with pytest.raises(IncomparableError, match=r"\(dtype fp32 then, bf16 now\)"):
        Latencies(QUICK.model_copy(update={"dtype": "bf16"}), tmp_path, said.append)
    whole = file.read_bytes()
    rewrite(file, hardware="Abacus", torch="1.0")
    with pytest.raises(IncomparableError, match=r"hardware Abacus then, .* now; torch 1\.0 then"):
        Latencies(QUICK, tmp_path, said.append)

    file.write_bytes(whole.replace(b'"small"', b'"other"'))  # changed by hand: measured again
    timed = Latencies(QUICK, tmp_path, said.append)
    timed.keep()
    assert f"{LATENCIES_FILE}:1: changed since" in said[-1] and not read_rows(file)


def test_what_can_not_be_measured_is_a_line_and_the_next_one_is(tmp_path: Path) -> None:
    odd = QUICK.model_copy(update={"latent_size": 7})
    with Latencies(odd, tmp_path, print) as timed:
        for _ in range(2):
            with pytest.raises(UserError, match="latent_size: got 7"):
                timed.of(tiny_arch(), "small")
        pixart = tiny_arch("pixart")
        process = timed._stopwatch._process
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"latency of other: the process .* was killed"):
            timed.of(pixart, "other")
        timed.leave = lambda: True
        with pytest.raises(KeyboardInterrupt):
            timed.of(lookup("SDXL-C128"), "third")


def test_a_driver_that_is_gone_takes_with_it_what_measures_for_it() -> None:
    watch = Stopwatch(QUICK.model_copy(update={"seconds": 600.0}))
    process = watch._start()
    assert process.stdin is not None
    asked = {"arch": tiny_arch().canonical(), "name": "small", "plugins": []}
    print(json.dumps(asked), file=process.stdin, flush=True)
    process.stdin.close()
    assert process.wait(timeout=120) == 0
    watch.close()


def test_included_ones_are_held_to_the_limit_and_a_small_space_is_measured_whole(
    tmp_path: Path,
) -> None:
    budget = tiny_budget()
    factory = make_factory(budget, (0,))
    space = space_with(tmp_path, "{latency: {max: 1.0e-9}}")
    plan = budget.search.model_copy(update={"latency": QUICK.model_copy(update={"dtype": None})})
    budget = budget.model_copy(update={"search": plan})
    said: list[str] = []
    timed = open_latencies(space, budget, tmp_path / "study", said.append)
    assert timed is not None and timed.settings == QUICK
    with timed:
        factory.latencies = timed
        told = r"space\.yaml:10:5: include\[0\]: base: latency .* ms is above the limit 1e-06 ms"
        with pytest.raises(ConfigError, match=told):
            time_included(space, factory, timed)
        assert not (tmp_path / "study").exists()
        free = space_with(tmp_path)
        assert not timed.complete
        time_all(free, factory, timed)
        assert timed.complete
        for arch in free.enumerate():
            made = factory.make(arch)
            assert made.latency == timed.of(arch, "") and made.sizes["latency_s"] > 0
        assert factory.make(arch, control="shuffled-captions").latency is None
    assert sum(line.startswith("latency of ") for line in said) == 3
    assert all_beforehand(free, trials=2, front=False) and all_beforehand(
        free, trials=1, front=True
    )
    assert not all_beforehand(free, trials=1, front=False)


def test_latencies_are_measured_where_something_asks_for_them(tmp_path: Path) -> None:
    budget = tiny_budget()
    assert open_latencies(space_with(tmp_path), budget, tmp_path, print) is None
    soft = space_with(tmp_path, "{latency: {max: 1, soft: true}}")
    timed = open_latencies(soft, budget, tmp_path, print)
    assert timed is not None
    assert (timed.here["latent_size"], timed.here["text_tokens"], timed.here["dtype"]) == (
        32,
        77,
        "fp32",
    )
    sought = budget.search.model_copy(update={"objectives": ("tifa", "-latency")})
    assert budget.model_copy(update={"search": sought}).latency == timed.settings
    away = budget.execution.model_copy(update={"runner": "ray"})
    with pytest.raises(UserError, match="got the runner 'ray' with latencies to measure"):
        open_latencies(soft, budget.model_copy(update={"execution": away}), tmp_path, print)
    nowhere = LatencySettings(device="cuda:77", dtype="fp32", threads=1)
    with pytest.raises(ConfigError, match=r"search\.latency\.device: got 'cuda:77'; expected one"):
        Latencies(nowhere, tmp_path, print)
