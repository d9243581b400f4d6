"""DeepSpeed as the training engine: any number of ranks, ZeRO stage 0 to 3, float32 masters."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, distributed, nn

from nas_t2i.locks import FolderLock
from nas_t2i.protocol.training import Execution, Training
from nas_t2i.training.ranks import Ranks

ModelT = TypeVar("ModelT", bound=nn.Module)
_BUILD_SECONDS = 600.0  # that another process may take to build DeepSpeed's operator


def learning_rate_factor(step: int, training: Training) -> float:
    """Linear warm-up, constant, then linear decay over the last share of the steps.

    The first step already has a rate above zero, the last step still has one.
    """
    warmup, decay = training.optimizer.warmup_steps, training.optimizer.decay_share
    up = min(1.0, (step + 1) / warmup) if warmup else 1.0
    decay_steps = decay * training.steps
    down = min(1.0, (training.steps - step) / decay_steps) if decay_steps else 1.0
    return up * max(0.0, down)


class Engine(Generic[ModelT]):
    """Owns the weights' updates. `module` is what the forward pass goes through.

    The model is float32 for DeepSpeed whatever the precision, so gradients are accumulated and
    reduced in float32; bfloat16 is the denoiser's own autocast.
    """

    def __init__(
        self, model: ModelT, training: Training, execution: Execution, ranks: Ranks, micro: int
    ) -> None:
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        deepspeed = import_deepspeed()
        _build_operator(ranks.device.type)
        self._model, self._ranks, self._stage = model, ranks, training.zero_stage
        self._shell = _hollow(model) if self._stage == 3 else model
        self._weights = list(model.parameters())
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
        offload = {f"offload_{part}": settings for part, settings in execution.offload.items()}
        # Every default that has changed between DeepSpeed releases is set here.
        config = {
            "train_batch_size": training.batch,
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": training.batch // ranks.size // micro,
            # Without ZeRO, torch's own clipping is the faster one; see `step`.
            "gradient_clipping": training.optimizer.grad_clip if training.zero_stage else 0.0,
            "zero_optimization": {"stage": training.zero_stage, **offload},
            # Ours is torch's fused AdamW, on whichever device the state lies.
            "zero_force_ds_cpu_optimizer": False,
            "data_types": {"grad_accum_dtype": "fp32"},
            "steps_per_print": 10**9,
            # It waits for the device twice a step.
            "timers": {"throughput": {"enabled": False}},
        }
        self._engine, _, _, self._schedule = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            lr_scheduler=schedule,
            config=config,
            dist_init_required=False,
        )
        _forget_shared_buffer(ranks)
        if execution.channels_last and training.zero_stage == 0:
            # Not earlier: DeepSpeed's set-up takes contiguous weights only; ZeRO's stay so.
            model.to(memory_format=torch.channels_last)
        # DeepSpeed copies all gradients together and back even where nobody shares them.
        # ZeRO needs it to find its gradients.
        self._engine.enable_backward_allreduce = ranks.size > 1 or self._stage > 0
        self._adam, self._grad_clip = optimizer, training.optimizer.grad_clip
        graphs = execution.cuda_graphs or execution.compile == "reduce-overhead"
        replayed = graphs and training.batch // ranks.size > micro
        self._gradients = [torch.zeros_like(weight) for weight in self._weights if replayed]
        self._begun = False  # a step, of whose micro-batches the last is not done
        self.module: nn.Module = self._engine

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of one micro-batch's mean loss (a scalar)."""
        if self._gradients and not self._begun:
            # Torch would accumulate in a CUDA graph's memory, which its next replay writes over.
            torch._foreach_zero_(self._gradients)
            for weight, gradient in zip(self._weights, self._gradients, strict=True):
                weight.grad = gradient
        self._begun = True
        self._engine.backward(loss)

    def step(self) -> Tensor:
        """Update the weights once all micro-batches had their backward pass.

        Returns the gradient norm of the whole model, before clipping, a scalar on the device; it
        is infinite or NaN where a gradient was not finite.
        """
        self._begun = False
        if self._stage == 0:
            norm = nn.utils.clip_grad_norm_(self._weights, self._grad_clip or math.inf)
            self._engine.step()
            return norm
        self._engine.step()
        # ZeRO leaves out a step whose gradients are not finite, for which it waits for the device.
        overflow = self._engine.optimizer.overflow
        whole = math.inf if overflow else self._engine.get_global_grad_norm()
        return torch.as_tensor(whole, dtype=torch.float32, device=self._ranks.device)

    def micro_step(self) -> None:
        """Tell the engine that a micro-batch before the last one is done."""
        self._engine.step()

    @property
    def shards(self) -> list[Tensor]:
        """What this rank holds of each weight: all of it, or with ZeRO stage 3 its flat share."""
        if self._stage == 3:
            return [weight.ds_tensor.detach() for weight in self._weights]  # type: ignore[attr-defined]
        return [weight.detach() for weight in self._weights]

    @property
    def shapes(self) -> list[list[int]]:
        """The shape of each whole weight."""
        return [list(getattr(weight, "ds_shape", weight.shape)) for weight in self._weights]

    @contextmanager
    def lend(self, shards: list[Tensor]) -> Iterator[ModelT]:
        """Lend the model with other weights, given as each rank's `shards`, whole on every rank.

        With ZeRO stage 3 it is a copy of the model that is lent, else the model itself.
        """
        if self._stage == 3:
            names = [name for name, _ in self._model.named_parameters()]
            copy = _hollow(self._shell)
            weights = dict(zip(names, self._whole(shards), strict=True))
            copy.load_state_dict(weights, strict=False, assign=True)
            yield copy.eval()
            return
        raw = [weight.clone() for weight in self.shards]
        self._put(shards)
        self._model.eval()
        try:
            yield self._model
        finally:
            self._put(raw)
            self._model.train()

    def _whole(self, shards: list[Tensor]) -> list[Tensor]:
        """Return the whole weights of ZeRO stage 3's flat shares."""
        whole = []
        for shard, shape in zip(shards, self.shapes, strict=True):
            parts = [torch.empty_like(shard) for _ in range(self._ranks.size)]
            distributed.all_gather(parts, shard)
            whole.append(torch.cat(parts)[: math.prod(shape)].view(shape))
        return whole

    @torch.no_grad()
    def _put(self, shards: list[Tensor]) -> None:
        torch._foreach_copy_(self.shards, shards)

    @property
    def _masters(self) -> list[Tensor]:
        """The float32 tensors that AdamW steps: the weights, or this rank's flat partitions."""
        if self._stage == 0:
            return list(self._weights)
        if self._stage == 3:
            return list(self._engine.optimizer.fp32_partitioned_groups_flat)
        return list(self._engine.optimizer.single_partition_of_fp32_groups)

    def state_dict(self) -> dict[str, Any]:
        """All that this rank's next step depends on besides `shards`: plain values and tensors."""
        masters = [] if self._stage == 0 else [master.detach() for master in self._masters]
        return {
            "masters": masters,
            "adam": [dict(self._adam.state[master]) for master in self._masters],
            "schedule": self._schedule.state_dict(),
            "global_steps": self._engine.global_steps,
            "micro_steps": self._engine.micro_steps,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any], weights: list[Tensor]) -> None:
        """Take up where `state_dict` left off, with the shards of the weights it had then."""
        self._put(
            [saved.to(shard.device) for saved, shard in zip(weights, self.shards, strict=True)]
        )
        if self._stage == 3:
            # Small weights are kept whole beside their shares.
            for weight, whole in zip(self._weights, self._whole(self.shards), strict=True):
                if weight.numel():
                    weight.copy_(whole)
        for master, saved in zip(self._masters, state["masters"], strict=bool(state["masters"])):
            master.copy_(saved)
        for master, saved in zip(self._masters, state["adam"], strict=True):
            self._adam.state[master] = {
                name: value.to(master.device) for name, value in saved.items()
            }
        self._schedule.load_state_dict(state["schedule"])
        self._engine.global_steps = state["global_steps"]
        self._engine.micro_steps = state["micro_steps"]
        for group, rate in zip(self._adam.param_groups, self._schedule.get_last_lr(), strict=True):
            group["lr"] = rate


def import_deepspeed() -> ModuleType:
    """Import DeepSpeed, and not what it takes besides where that is installed.

    MLflow, of its autotuner, takes seconds and starts a thread; NVIDIA's NVML seems to start one,
    too, and from a process with threads no trial is forked.
    """
    found = {name: sys.modules.get(name) for name in ("mlflow", "pynvml")}
    for name in found:
        sys.modules[name] = None  # type: ignore[assignment]  # to import it is an ImportError
    try:
        import deepspeed
    finally:
        for name, module in found.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
    return deepspeed  # type: ignore[no-any-return]


def _build_operator(device: str) -> None:
    """Have DeepSpeed build its operator with this environment's ninja, and keep it here.

    Two environments, or two versions of ninja, take what the other built for stale; sharing one
    folder, as is the default, they would build it again at each start.
    """
    os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", "")
    if "TORCH_EXTENSIONS_DIR" in os.environ or not os.access(sys.prefix, os.W_OK):
        return
    folder = Path(sys.prefix) / "torch_extensions"
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    if device != "cpu":
        return
    from deepspeed.comm.torch import build_shm_op

    with FolderLock(folder / ".building", wait_seconds=_BUILD_SECONDS):
        # A process that was killed while it built left this behind; others would wait for ever.
        (folder / "deepspeed_shm_comm" / "lock").unlink(missing_ok=True)
        build_shm_op()


def _forget_shared_buffer(ranks: Ranks) -> None:
    """Take the name from the memory that this rank shares with the others of its machine.

    DeepSpeed adds up over it on the CPU (69 MB a rank) and never gives it back. All have it mapped
    by now; without a name it goes when the last of them ends, killed or not.
    """
    if ranks.device.type != "cpu":
        return
    ranks.wait()
    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{ranks.rank}"
    (Path("/dev/shm") / name).unlink(missing_ok=True)  # noqa: S108


def _hollow(model: ModelT) -> ModelT:
    """Return a copy of a model whose weights take no memory and whose buffers are real."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(torch.empty_like(weight, device="meta"))
        for weight in model.parameters()
    }
    return deepcopy(model, memo)
