"""A budget and inputs small enough to train in a second."""

from functools import cache
from pathlib import Path

from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.inputs import Inputs, make_inputs
from nas_t2i.training.loop import Trainer

ROOT = Path(__file__).parents[2]


def tiny_budget(steps: int = 6, **training) -> Budget:
    whole = load_budget(ROOT / "budgets/embedded.yaml")
    optimizer = whole.training.optimizer.model_copy(update={"warmup_steps": 2})
    changes = {"steps": steps, "batch": 4, "optimizer": optimizer} | training
    return whole.model_copy(
        update={
            "data": whole.data.model_copy(update={"scenes": 64}),
            "text": whole.text.model_copy(update={"steps": 2}),
            "training": whole.training.model_copy(update=changes),
            "evaluation": whole.evaluation.model_copy(update={"prompts": 8}),
            "rungs": tuple(sorted({max(1, steps // 3), max(1, 2 * steps // 3), steps})),
        }
    )


def tiny_arch(family: str = "unet"):
    from nas_t2i.arch.families import arch_from_dict

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


@cache
def tiny_inputs(cache_dir: Path, shuffle: bool = False) -> Inputs:
    return make_inputs(tiny_budget(), cache_dir, shuffle_captions=shuffle)


def tiny_trainer(
    cache_dir: Path, budget: Budget, *, seed: int = 0, family: str = "unet"
) -> Trainer:
    inputs = tiny_inputs(cache_dir)
    denoiser = build_denoiser(tiny_arch(family), latent_size=8, latent_channels=12, seed=seed)
    return Trainer(denoiser, inputs, budget, seed)
