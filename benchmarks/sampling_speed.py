"""Our sampler against diffusers' StableDiffusionPipeline with the same weights, on the CPU.

    python benchmarks/sampling_speed.py [--arch SDXL-C320] [--batch 128] [--rounds 7]
    python benchmarks/sampling_speed.py --attention      where `_SMALL_HEAD` comes from
    python benchmarks/sampling_speed.py --shares         evaluation's share of measured trials

The model is the embedded budget's proxy of the architecture, saved in diffusers' layout and
loaded from there by the pipeline. Both take the same encoded prompts, noise, DDIM steps, guidance
and batch, run under inference mode with one thread, and give latents. They take turns in one
process; ratios are of each round's images per second. In between run our sampler with diffusers'
attention, and with one of its two savings at a time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from nas_t2i.arch.catalog import lookup
from nas_t2i.environment import cache_dir
from nas_t2i.evaluation.embedded.prompts import make_prompts
from nas_t2i.evaluation.sampling import kv_cache as attention
from nas_t2i.evaluation.sampling.ddim import sample
from nas_t2i.protocol.budget import load_budget
from nas_t2i.shipped import find_file
from nas_t2i.store import find_studies, read_trials
from nas_t2i.training.denoiser import Denoiser, build_denoiser
from nas_t2i.training.export import ldm_scheduler
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.noise import draw_noise, ldm_schedule

Case = Callable[[], Tensor]


@contextmanager
def savings(kept_text: bool, small_heads: bool) -> Iterator[None]:
    """Leave out one of the savings, or both."""
    before = attention._KEPT_BYTES, attention._SMALL_HEAD
    attention._KEPT_BYTES *= kept_text
    attention._SMALL_HEAD *= small_heads
    try:
        yield
    finally:
        attention._KEPT_BYTES, attention._SMALL_HEAD = before


def make_pipeline(denoiser: Denoiser, objective: Any) -> StableDiffusionPipeline:
    """Return diffusers' pipeline around a saved and loaded copy of a denoiser."""
    with tempfile.TemporaryDirectory() as folder:
        denoiser.model.save_pretrained(folder)  # type: ignore[operator]
        model = UNet2DConditionModel.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32,)),
        text_encoder=None,
        tokenizer=None,
        unet=model,
        scheduler=ldm_scheduler(objective),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_cases(arch: str, batch: int) -> dict[str, Case]:
    """Return what draws one batch: diffusers' pipeline, then ours with more and more of it."""
    budget = load_budget(find_file("embedded", "budgets"))
    inputs, sampler = Inputs(budget, cache_dir()), budget.evaluation.sampler
    channels, side = inputs.latent_shape[:2]
    assert budget.proxy is not None
    proxy = lookup(arch).proxy(
        budget.proxy, latent_channels=channels, text_dim=inputs.encoder.width
    )
    denoiser = build_denoiser(proxy, latent_size=side, latent_channels=channels, seed=0).eval()
    pipeline = make_pipeline(denoiser, budget.objective)
    text = inputs.encoder.encode(make_prompts(budget).captions[:batch])
    latents = draw_noise(0, 0, (batch, *inputs.latent_shape), "sampling")
    print(
        f"{arch}, embedded proxy, {sum(w.numel() for w in denoiser.parameters()) / 1e6:.1f} M "
        f"parameters; {sampler.steps} steps, guidance {sampler.guidance:g}, batch {batch}, 1 thread"
    )

    @torch.inference_mode()
    def theirs() -> Tensor:
        drawn: Tensor = pipeline(
            prompt_embeds=text,
            negative_prompt_embeds=inputs.null_text.expand_as(text),
            latents=latents,
            height=side,
            width=side,
            num_inference_steps=sampler.steps,
            guidance_scale=sampler.guidance,
            output_type="latent",
        ).images
        return drawn

    def ours(kept_text: bool = True, small_heads: bool = True, hidden: bool = False) -> Tensor:
        # A function around the model hides its modules: it keeps diffusers' attention.
        drawn_by = (lambda x, t, text: denoiser(x, t, text)) if hidden else denoiser
        with savings(kept_text, small_heads):
            return sample(
                drawn_by,
                text,
                inputs.null_text,
                latent_shape=inputs.latent_shape,
                schedule=ldm_schedule(),
                prediction=budget.objective.prediction,
                steps=sampler.steps,
                guidance=sampler.guidance,
                seed=0,
                batch=batch,
            )

    return {
        "diffusers' pipeline": theirs,
        "ours, diffusers' attention": lambda: ours(hidden=True),
        "ours, text's keys and values kept": lambda: ours(small_heads=False),
        "ours, small heads many at a time": lambda: ours(kept_text=False),
        "ours": ours,
    }


def compare(cases: dict[str, Case], batch: int, rounds: int) -> None:
    """Take turns and print images per second and the ratio to the first case."""
    seconds = {name: list[float]() for name in cases}
    drawn = {}
    for number in range(rounds + 1):
        for name, case in cases.items():
            begin = time.perf_counter()
            drawn[name] = case()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    theirs, plain, *_, ours = drawn.values()
    print(
        f"latents lie in {float(ours.min()):.2f} .. {float(ours.max()):.2f} and differ by at most "
        f"{float((plain - theirs).abs().max()):.1e} between the samplers, "
        f"{float((ours - plain).abs().max()):.1e} between the attentions"
    )
    base = next(iter(seconds.values()))
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(base, taken, strict=True)]
        by_round = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{batch / statistics.median(taken):7.1f} images/s  {statistics.median(ratios):.2f}x  "
            f"(by round: {by_round})  {name}"
        )


@torch.inference_mode()
def compare_attention(heads: int = 10, n: int = 128) -> None:
    """Print how many times as fast as PyTorch's kernel small heads are taken many at a time."""
    print("head width, tokens, tokens looked at: width x looked at, speed against PyTorch's kernel")
    for width in (4, 8, 16, 32):
        for tokens, seen in ((4, 4), (4, 12), (16, 12), (16, 16), (16, 77)):
            x = torch.randn(n, tokens, heads * width)
            key, value = torch.randn(2, n, seen, heads * width)
            parts = x, key, value

            def theirs(parts: Any = parts) -> Tensor:
                split = [attention._split(part, heads) for part in parts]
                return functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)

            def ours(parts: Any = parts) -> Tensor:
                split = [attention._split_small(part, heads) for part in parts]
                return attention._join_small(attention._attend_small(*split), n)

            ratio = _fastest(theirs) / _fastest(ours)
            print(f"{width:3d} {tokens:3d} {seen:3d}: {width * seen:5d}  {ratio:.2f}x")


def _fastest(case: Case, repeats: int = 15) -> float:
    taken = []
    for _ in range(repeats):
        begin = time.perf_counter()
        case()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def print_shares(root: Path) -> None:
    """Print what share of its time each measured study's trials spent on evaluation."""
    for folder in find_studies(root):
        ends = [trial.curve[-1] for trial in read_trials(folder) if trial.curve]
        shares = [end.evaluation_seconds / (end.evaluation_seconds + end.seconds) for end in ends]
        seconds = statistics.median(end.evaluation_seconds for end in ends)
        print(
            f"{folder.name}: evaluation {seconds:.1f} s of a trial, {min(shares):.1%} to "
            f"{max(shares):.1%} of training and evaluation, median {statistics.median(shares):.1%} "
            f"({len(ends)} trials)"
        )


def main() -> None:
    """Compare, or print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="SDXL-C320", help="a UNet of the catalog")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--attention", action="store_true")
    parser.add_argument("--shares", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.attention:
        compare_attention()
    elif options.shares:
        print_shares(Path("results/measured/v1"))
    else:
        compare(make_cases(options.arch, options.batch), options.batch, options.rounds)


if __name__ == "__main__":
    main()
