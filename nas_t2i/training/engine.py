"""DeepSpeed as the training engine: one process on the CPU."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from nas_t2i.protocol.budget import Training


def learning_rate_factor(step: int, training: Training) -> float:
    """Linear warm-up, constant, then linear decay over the last share of the steps.

    The first step already has a rate above zero, the last step still has one.
    """
    warmup, decay = training.optimizer.warmup_steps, training.optimizer.decay_share
    up = min(1.0, (step + 1) / warmup) if warmup else 1.0
    decay_steps = decay * training.steps
    down = min(1.0, (training.steps - step) / decay_steps) if decay_steps else 1.0
    return up * max(0.0, down)


class Engine:
    """Owns the optimiser step. `module` is what the forward pass goes through."""

    def __init__(self, model: nn.Module, training: Training) -> None:
        _join_process_group()
        import deepspeed

        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=training.optimizer.learning_rate,
            betas=training.optimizer.betas,
            eps=training.optimizer.eps,
            weight_decay=training.optimizer.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, training)
        )
        # Every default that has changed between DeepSpeed releases is set here.
        config = {
            "train_batch_size": training.batch,
            "train_micro_batch_size_per_gpu": training.batch,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": training.optimizer.grad_clip,
            "zero_optimization": {"stage": training.zero_stage},
            "data_types": {"grad_accum_dtype": "fp32"},
            "steps_per_print": 10**9,
        }
        self._engine, self._optimizer, _, self._schedule = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=schedule,
            config=config,
            dist_init_required=False,
        )
        self.module: nn.Module = self._engine

    def step(self, loss: torch.Tensor) -> float:
        """Back-propagate a scalar loss, update the weights; return the gradient norm (unclipped).

        The norm is that of the whole model, 0.0 where the engine was asked for no clipping.
        """
        self._engine.backward(loss)
        self._engine.step()
        return float(self._engine.get_global_grad_norm() or 0.0)

    def state_dict(self) -> dict[str, object]:
        """Everything besides the weights that the next step depends on."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "global_steps": self._engine.global_steps,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up where `state_dict` left off."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._engine.global_steps = state["global_steps"]


def _join_process_group() -> None:
    """Be a process group of one, without MPI, a free port or a launcher."""
    os.environ.update({"DS_ACCELERATOR": "cpu", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if not torch.distributed.is_initialized():
        meeting_place = Path(tempfile.mkdtemp(prefix="nas-t2i-")) / "store"
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{meeting_place}", rank=0, world_size=1
        )
