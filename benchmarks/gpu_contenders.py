"""What `gpu_training.py` compares: each contender returns a function that takes so many steps.

What they are is told there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from bare_loop import CachedTensors, bare_loop
from torch import Tensor, nn

from nas_t2i.arch.spec import Arch
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.shipped import find_file
from nas_t2i.training.denoiser import Denoiser
from nas_t2i.training.loop import Trainer
from nas_t2i.training.ranks import join_ranks

TOKENS, TEXT_WIDTH, CHANNELS, DOWNSAMPLING = 77, 1024, 4, 8  # the paper's text and latents
COMPILE_AS = {"graphs": "reduce-overhead", "regional": "regional"}
COMPILED = ("ours", "bare")
Steps = Callable[[int], object]


def make_budget(
    options: argparse.Namespace, micro_batch: int | None = None, contender: str = "ours"
) -> Budget:
    """Return the paper's budget for one device, with the batch and the options of this run."""
    compiled = options.compile if contender in COMPILED else COMPILE_AS.get(contender, False)
    paper = load_budget(find_file("paper_256", "budgets"))
    data = {"resolution": options.latent_size * DOWNSAMPLING}
    training = {
        "batch": options.batch,
        "device": options.device,
        "zero_stage": options.zero_stage,
        "threads": options.threads,
    }
    execution = {
        "ranks": 1,
        "micro_batch": micro_batch or "auto",
        "channels_last": options.channels_last,
        "compile": compiled,
        "cuda_graphs": options.device == "cuda" and contender in ("recorded", "shared"),
        "trials_per_device": options.side_by_side if "shared" in options.contenders else 1,
    }
    return paper.model_copy(
        update={
            "data": paper.data.model_copy(update=data),
            "training": paper.training.model_copy(update=training),
            "execution": paper.execution.model_copy(update=execution),
        }
    )


def make_feed(options: argparse.Namespace) -> CachedTensors:
    """Return random latents and text features, as many as a batch has."""
    generator = torch.Generator().manual_seed(0)
    side = options.latent_size
    return CachedTensors(
        torch.randn(options.batch, CHANNELS, side, side, generator=generator),
        torch.randn(options.batch, TOKENS, TEXT_WIDTH, generator=generator),
    )


def build_on_device(arch: Arch, budget: Budget, feed: CachedTensors) -> nn.Module:
    """Return the diffusers model, its weights drawn on the device: billions take a CPU a minute."""
    with torch.device(budget.training.device):
        return arch.build(feed.latent_shape[1])


def ours(arch: Arch, budget: Budget, feed: CachedTensors, micro_batch: int) -> Steps:
    """Set up our trainer as a trial does."""
    ranks = join_ranks(budget.training.device)
    model = build_on_device(arch, budget, feed)
    denoiser = Denoiser(model, CHANNELS, budget.training.precision, arch.call)
    denoiser.prepare(budget.execution)
    trainer = Trainer(denoiser, feed, budget, 0, ranks, micro_batch)
    # All in one go: at the end of each, the host waits for the device.
    return lambda count: trainer.train_to(trainer.step + count, lambda *_: None)


def bare(arch: Arch, budget: Budget, feed: CachedTensors, micro_batch: int) -> Steps:
    """Set up the bare loop, its model compiled and laid out as ours is."""
    device, execution = budget.training.device, budget.execution
    layout = torch.channels_last if execution.channels_last else torch.contiguous_format
    model = build_on_device(arch, budget, feed).to(memory_format=layout)
    if execution.compile:
        model.compile()

    def predict(noisy: Tensor, t: Tensor, text: Tensor) -> Tensor:
        noisy = noisy.contiguous(memory_format=layout)
        with torch.autocast(device, torch.bfloat16):
            out = model(noisy, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
        return out[:, :CHANNELS].float()

    return _one_by_one(bare_loop(predict, model.parameters(), feed, budget, micro_batch))


def example(arch: Arch, budget: Budget, feed: CachedTensors, micro_batch: int) -> Steps:
    """Set up the example's structure: what it does each step, with its defaults."""
    from diffusers import DDPMScheduler
    from torch.utils.data import DataLoader, TensorDataset

    device, settings = budget.training.device, budget.training.optimizer
    model = build_on_device(arch, budget, feed)
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / settings.warmup_steps)
    )
    loader = DataLoader(
        TensorDataset(feed.latents, feed.text),
        batch_size=micro_batch,
        shuffle=True,
        drop_last=True,
        pin_memory=device == "cuda",
    )
    batches = _endless(loader)
    micro_batches = budget.training.batch // micro_batch

    def step() -> None:
        for _ in range(micro_batches):
            latents, text = (part.to(device) for part in next(batches))
            eps = torch.randn_like(latents)
            t = torch.randint(1000, (len(latents),), device=device)
            noisy = scheduler.add_noise(latents, eps, t)
            with torch.autocast(device, torch.bfloat16):
                out = model(noisy, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
            loss = nn.functional.mse_loss(out[:, :CHANNELS].float(), eps.float())
            torch.autograd.backward(loss / micro_batches)
            loss.item()  # for the log
        nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()

    return _one_by_one(step)


def _one_by_one(step: Callable[[], object]) -> Steps:
    def take(count: int) -> None:
        for _ in range(count):
            step()

    return take


def _endless(batches: torch.utils.data.DataLoader[tuple[Tensor, ...]]) -> Iterator[list[Tensor]]:
    while True:
        yield from batches


CONTENDERS = {
    "ours": ours,
    "regional": ours,
    "graphs": ours,
    "recorded": ours,
    "eager": ours,
    "shared": ours,
    "bare": bare,
    "example": example,
}


def processes_of(contender: str, options: argparse.Namespace) -> int:
    """Return how many processes of a contender share the device."""
    return int(options.side_by_side) if contender == "shared" else 1
