"""One call for every family: (latents, steps, text) to a prediction of the latents' shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import graph

from nas_t2i.arch.spec import Arch
from nas_t2i.protocol.training import Execution
from nas_t2i.streams import derive_seed


class Denoiser(nn.Module):
    """A diffusers backbone behind the one signature that training and sampling use.

    Weights are float32 whatever the precision: with "bf16" the matrix products run in bfloat16
    under autocast, and master weights, gradients and their accumulation stay float32.
    """

    def __init__(
        self,
        model: nn.Module,
        latent_channels: int,
        precision: str = "fp32",
        call: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor] = Arch.call,
    ) -> None:
        """`call` is the family's way to call its model, `Arch.call`."""
        super().__init__()
        self.model = model
        self._call = call
        self._channels = latent_channels
        self._bf16 = precision == "bf16"
        self._memory_format = torch.contiguous_format
        self._replayed = False  # from a CUDA graph of torch.compile's
        self._recorded: list[nn.Module] = []  # in a list: its weights are the model's

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Predict (N, C, H, W) float32 at latents `x`, (N,) steps `t`, (N, tokens, width) text."""
        if self._recorded and self.training and torch.is_grad_enabled():
            recorded: Tensor = self._recorded[0](x, t, text)
            return recorded
        prediction = self._predict(self.model, x, t, text)
        # A graph's next replay writes over what it gave.
        return prediction.clone() if self._replayed else prediction

    def _predict(self, model: nn.Module, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        x = x.contiguous(memory_format=self._memory_format)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            out = self._call(model, x, t, text)
        # PixArt's other channels are a learned variance, which this objective does not train.
        return out[:, : self._channels].float()

    def prepare(self, execution: Execution) -> None:
        """Apply the execution's speed and memory options; the results differ by rounding only."""
        if execution.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()  # type: ignore[operator]
        if execution.channels_last:
            self._memory_format = torch.channels_last
        if execution.compile == "reduce-overhead":
            self.model.compile(mode=execution.compile)
            self._replayed = True
        elif execution.compile:
            self.model.compile()

    def record(self, x: Tensor, t: Tensor, text: Tensor) -> None:
        """Record a training step's forward and backward pass as CUDA graphs, to be replayed.

        Shapes as in `forward`, and those of every later step. Weights must stay where they are.
        Nothing else may use the device meanwhile, from another thread of this process either.
        """
        if hasattr(graph, "set_warn_on_accumulate_grad_stream_mismatch"):
            # Weights get their gradients on the stream of the recording, as is meant.
            graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        sample = (x.clone(), t.clone(), text.clone())
        recorded = _Recorded(self.model, self._predict)
        torch.cuda.make_graphed_callables(recorded, sample, allow_unused_input=True)
        self._recorded = [recorded]


class _Recorded(nn.Module):
    """The model and the way it is called, as torch wants what it records: hooks on none."""

    def __init__(
        self, model: nn.Module, predict: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.model, self._predict = model, predict

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return self._predict(self.model, x, t, text)


def build_denoiser(
    arch: Arch, *, latent_size: int, latent_channels: int, seed: int, precision: str = "fp32"
) -> Denoiser:
    """Build `arch` for square latents of that side, its weights drawn from (seed, "init")."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        model = arch.build(latent_size)
    return Denoiser(model, latent_channels, precision, arch.call)
