"""Compute and time of a full-scale run, against their formulas."""

import json
from pathlib import Path

import pytest

from nas_t2i.arch.profile import profile
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.errors import ArchError, UserError
from nas_t2i.protocol.budget import load_budget
from nas_t2i.results.scale_up.cost import by_images, by_latency, by_tflops, work_of

PAPER = load_budget(Path(__file__).parents[3] / "budgets/paper_256.yaml")
ARCH = resolve_arch("SDXL-C128").arch


@pytest.fixture(scope="module")
def work():
    return work_of(ARCH, PAPER)


def test_compute_is_three_forward_passes_an_image(work):
    gmacs = profile(ARCH).gmacs
    images = 600_000 * 2048
    assert work.images == images
    assert work.training_flops == pytest.approx(3 * 2 * gmacs * 1e9 * images)
    passes = 6 * (2048 + 16 * 2 * 50)  # rungs x (held-out pairs, and images drawn with guidance)
    signals = 6 * 3 * 96
    assert work.evaluation_passes == passes + signals
    assert work.evaluation_flops == pytest.approx(2 * gmacs * 1e9 * (passes + signals))


def test_latents_that_no_config_tells_are_said_to_be_assumed(work):
    assert (work.profile.latent_size, work.profile.text_tokens) == (32, 77)
    assert "latents of 32x32 and 77 tokens of text are assumed: latents.model" in work.assumed


def test_every_throughput_gives_the_time_of_its_formula(work, tmp_path):
    assert by_images(800).training_seconds(work) == pytest.approx(work.images / 800)
    by_rate = by_tflops(100, work, ranks=8)
    assert by_rate.training_seconds(work) == pytest.approx(work.training_flops / 8e14)
    assert by_rate.evaluation_seconds(work) == pytest.approx(work.evaluation_flops / 8e14)
    found = by_latency(record(tmp_path, work), work, PAPER)
    assert found.training_seconds(work) == pytest.approx(3 * 0.05 / 16 * work.images / 8)
    assert "lower bound" in found.basis and "H100" in found.basis


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arch_id": "unet-0"}, "got unet-0; expected a row of unet-"),
        ({"dtype": "fp32"}, "got dtype fp32; expected bf16, the run's"),
        ({"latent_size": 64}, "got latent_size 64; expected 32"),
        ({"threads": 2}, "got device cpu; expected cuda"),
        ({"median_s": "x"}, "no record of latency; expected what nas-t2i profile"),
        ({"median_s": 0.0}, "got 0.0 s for 16 images"),
    ],
)
def test_a_record_of_something_else_is_refused(work, tmp_path, changes, expected):
    with pytest.raises(UserError, match=expected):
        by_latency(record(tmp_path, work, **changes), work, PAPER)


def test_an_architecture_for_other_text_is_refused():
    budget = PAPER.model_copy(
        update={
            "latents": PAPER.latents,
            "text": PAPER.text.model_copy(update={"model": "ViT-L-14"}),
        }
    )
    data = budget.model_dump(mode="json")
    data["latents"] = {"codec": "pixel_unshuffle", "factor": 2, "scale": 1.0}
    other = type(PAPER).model_validate(data, strict=False)
    with pytest.raises(ArchError, match="made for 4 latent channels and text of width 1024"):
        work_of(ARCH, other)


def record(folder, work, arch_id="", **changes):
    latency = {
        "median_s": 0.05,
        "first_quartile_s": 0.049,
        "third_quartile_s": 0.052,
        "repeats": 40,
        "batch": 16,
        "latent_size": 32,
        "text_tokens": 77,
        "dtype": "bf16",
        "compiled": True,
        "hardware": "NVIDIA H100",
        "threads": 0,
        "torch": "2.15.0",
    }
    row = {"arch_id": arch_id or work.profile.arch_id, "latency": latency | changes}
    file = folder / "latency.json"
    file.write_text(json.dumps([row]))
    return file
