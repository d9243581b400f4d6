"""One call for every family: (latents, steps, text) to a prediction of the latents' shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import graph

from nas_t2i.arch.spec import Arch
from nas_t2i.errors import UserError
from nas_t2i.protocol.training import Execution
from nas_t2i.streams import derive_seed

# Beside those that diffusers names itself, `_repeated_blocks`, where it does: PixArt's names none,
# and of a UNet it leaves out the residual blocks.
_BLOCKS = frozenset({"BasicTransformerBlock", "ResnetBlock2D"})
# Shapes of one class of blocks. Torch's own limit of 8 is less than a UNet's widths have, and
# beyond it blocks would run uncompiled after no more than a warning.
_SHAPES = 256


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
        self._regional = False  # blocks are compiled, for training
        self._recorded: list[nn.Module] = []  # in a list: its weights are the model's

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Predict (N, C, H, W) float32 at latents `x`, (N,) steps `t`, (N, tokens, width) text."""
        if self._recorded and self.training and torch.is_grad_enabled():
            recorded: Tensor = self._recorded[0](x, t, text)
            return recorded
        if self._regional and not self.training:
            # Batches of other sizes come here, and each would be compiled for anew.
            with torch.compiler.set_stance("force_eager"):
                return self._predict(self.model, x, t, text)
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
        """Apply the execution's speed and memory options; the results differ by rounding only.

        Raises:
            UserError: the model has no blocks to be compiled one by one.
        """
        if execution.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()  # type: ignore[operator]
        if execution.channels_last:
            self._memory_format = torch.channels_last
        if execution.compile == "reduce-overhead":
            self.model.compile(mode=execution.compile)
            self._replayed = True
        elif execution.compile == "regional":
            compile_blocks(self.model)
            self._regional = True
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


def compile_blocks(model: nn.Module) -> None:
    """Compile each block by itself; blocks of one class and shape share what is compiled.

    Each shape is compiled as it is, no size is made a variable: training has few of them. For
    this process it raises torch's limit on shapes, and makes it an error to reach it.

    Raises:
        UserError: the model has none of the blocks that are known to repeat.
    """
    import torch._dynamo.config as dynamo

    names = _BLOCKS.union(getattr(model, "_repeated_blocks", None) or ())
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    if not blocks:
        raise UserError(
            f"execution.compile: got 'regional' for a {type(model).__name__}, which has no block "
            f"named {', '.join(sorted(names))}; expected true or false"
        )
    dynamo.recompile_limit = max(dynamo.recompile_limit, _SHAPES)
    dynamo.fail_on_recompile_limit_hit = True
    for block in blocks:
        block.compile(dynamic=False)


def build_denoiser(
    arch: Arch, *, latent_size: int, latent_channels: int, seed: int, precision: str = "fp32"
) -> Denoiser:
    """Build `arch` for square latents of that side, its weights drawn from (seed, "init")."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        model = arch.build(latent_size)
    return Denoiser(model, latent_channels, precision, arch.call)
