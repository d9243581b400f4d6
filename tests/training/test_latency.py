import pytest
import torch

from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.errors import UserError
from nas_t2i.training.latency import measure_latency

ARCH = resolve_arch(
    "family=unet,channels=8,channel_mult=[1],transformer_depth=[1],head_dim=4,norm_groups=4"
).arch


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_passes_are_timed_and_what_they_hold_for_is_said(dtype: str) -> None:
    found = measure_latency(
        ARCH, latent_size=8, text_tokens=4, batch=2, dtype=dtype, seconds=0.01, name="small"
    )
    assert 0 < found.first_quartile_s <= found.median_s <= found.third_quartile_s
    assert found.repeats >= 5
    assert (found.batch, found.latent_size, found.text_tokens) == (2, 8, 4)
    assert (found.dtype, found.compiled) == (dtype, False)
    assert found.hardware and found.threads == torch.get_num_threads()
    assert found.torch == torch.__version__


def test_what_does_not_fit_into_memory_is_said_in_a_line() -> None:
    with pytest.raises(UserError, match=r"^--latency of small: does not fit .* batch 10000000000 "):
        measure_latency(ARCH, latent_size=64, text_tokens=4, batch=10**10, name="small")
