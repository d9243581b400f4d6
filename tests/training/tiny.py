"""A budget and inputs small enough to train in a second."""

from functools import cache
from pathlib import Path

import torch

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.streams import normal_rows
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.samples import HeldOut, Samples
from nas_t2i.training.loop import Trainer
from nas_t2i.training.ranks import Ranks, join_ranks

ROOT = Path(__file__).parents[2]


def tiny_budget(steps: int = 6, execution: dict | None = None, **training) -> Budget:
    whole = load_budget(ROOT / "budgets/embedded_v1.yaml")
    optimizer = whole.training.optimizer.model_copy(update={"warmup_steps": 2})
    changes = {"steps": steps, "batch": 4, "optimizer": optimizer} | training
    execution = {"micro_batch": changes["batch"]} | (execution or {})
    rungs = tuple(sorted({max(1, steps // 3), max(1, 2 * steps // 3), steps}))
    search = whole.search
    if len(rungs) == 1:
        search = search.model_copy(update={"early_stopping": None})
    elif search.early_stopping is not None:  # one share for each rung but the last
        shares = {"keep": (0.5,) * (len(rungs) - 1)}
        rule = search.early_stopping.model_copy(update=shares)
        search = search.model_copy(update={"early_stopping": rule})
    return whole.model_copy(
        update={
            "data": whole.data.model_copy(update={"scenes": 64}),
            "text": whole.text.model_copy(update={"steps": 2}),
            "training": whole.training.model_copy(update=changes),
            "evaluation": whole.evaluation.model_copy(update={"prompts": 8}),
            "rungs": rungs,
            "search": search,
            "execution": whole.execution.model_copy(update=execution),
        }
    )


def tiny_arch(family: str = "unet"):
    data = {
        "unet": {
            "channels": 8,
            "channel_mult": [1, 2],
            "res_blocks": 1,
            "transformer_depth": [0, 1],
            "head_dim": 8,
            "norm_groups": 4,
        },
        "pixart": {"hidden": 16, "depth": 1, "heads": 2, "patch": 2, "caption_embedding": True},
    }[family]
    return arch_from_dict({"family": family, "text_dim": 64, "latent_channels": 12, **data})


class NoiseFeed:
    """Samples that are noise, in the embedded budget's shapes: no data set, no encoder."""

    latent_shape = (12, 8, 8)

    def __init__(self, seed: int, bad_sample: int = -1) -> None:
        self._seed, self._bad_sample = seed, bad_sample
        self.null_text = torch.zeros(12, 64)

    def samples(self, first: int, count: int) -> Samples:
        x0 = torch.from_numpy(normal_rows(self._seed, "x0", first, count, 12 * 8 * 8))
        text = torch.from_numpy(normal_rows(self._seed, "text", first, count, 12 * 64))
        if first <= self._bad_sample < first + count:
            x0[self._bad_sample - first] = torch.nan
        return Samples(x0.reshape(count, *self.latent_shape), text.reshape(count, 12, 64))

    def image_noun_pairs_seen(self, count: int) -> None:
        """There are no nouns in noise."""

    def held_out(self, seed: int, count: int) -> HeldOut:
        samples = NoiseFeed(seed + 1000).samples(0, count)
        return HeldOut(samples, [f"caption {number}" for number in range(count)])


class NoiseInputs:
    """What `NoiseFeed` stands in the place of."""

    def __init__(self) -> None:
        self.fingerprints = {"data": "noise"}
        self.training_set = None

    def make_feed(self, seed: int) -> NoiseFeed:
        return NoiseFeed(seed)


@cache
def tiny_inputs(cache_dir: Path, shuffle: bool = False):
    # Not above: ranks that train on noise need no encoders.
    from nas_t2i.training.feeds.inputs import Inputs

    return Inputs(tiny_budget(), cache_dir, shuffle_captions=shuffle)


def tiny_encoded_shapes(cache_dir: Path):
    from nas_t2i.training.feeds.shapes import encode_shapes

    budget, inputs = tiny_budget(), tiny_inputs(cache_dir)
    return encode_shapes(budget.data, inputs.encoder, inputs.codec, held_out=budget.held_out)


def tiny_trainer(
    cache_dir: Path,
    budget: Budget,
    *,
    seed: int = 0,
    family: str = "unet",
    micro_batch: int | None = None,
) -> Trainer:
    feed = tiny_inputs(cache_dir).make_feed(seed)
    return trainer_on(feed, budget, join_ranks("cpu"), seed, family, micro_batch)


def trainer_on(
    feed, budget: Budget, ranks: Ranks, seed: int = 0, family: str = "unet", micro_batch=None
) -> Trainer:
    denoiser = build_denoiser(
        tiny_arch(family),
        latent_size=8,
        latent_channels=12,
        seed=seed,
        precision=budget.training.precision,
    )
    denoiser.to(ranks.device).prepare(budget.execution)
    return Trainer(denoiser, feed, budget, seed, ranks, micro_batch)
