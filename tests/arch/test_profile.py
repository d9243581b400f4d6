"""The profile against fvcore, torch's own counter, and the tables of the paper."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_t2i.arch.catalog import Reported, lookup, reported
from nas_t2i.arch.profile import Count, count, profile
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError
from tests.arch.strategies import archs, if_unets, pixarts, unets

NOT_PRODUCTS = {"group_norm", "layer_norm", "upsample_nearest2d", "einsum"}


class Called(nn.Module):
    """A denoiser with the positional signature that a jit trace needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        output: Tensor = self.model(
            latents, timestep=timestep, encoder_hidden_states=text, return_dict=False
        )[0]
        return output


def smallest_latent(arch: Arch) -> int:
    # At 1x1 torch refuses a group norm with one channel a group.
    return 8 if arch.FAMILY == "pixart" else 2 ** len(arch.canonical()["channel_mult"])


def call_inputs(arch: Any, size: int, tokens: int) -> tuple[Tensor, ...]:
    return (
        torch.zeros(1, arch.latent_channels, size, size),
        torch.zeros(1),
        torch.zeros(1, tokens, arch.text_dim),
    )


def fvcore_of(arch: Arch, size: int, tokens: int) -> Any:
    # Imported here, after nas_t2i.arch.profile, which silences what fvcore's import warns of.
    from fvcore.nn import FlopCountAnalysis

    model = Called(arch.build(size).eval())
    analysis = FlopCountAnalysis(model, call_inputs(arch, size, tokens))
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def by_operator(counted: Count) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for (_, operator), macs in counted.macs.items():
        sums[operator] += macs
    return dict(sums)


def on_data(_inputs: list[Any], outputs: list[Any]) -> int:
    """Count a jit node as one call, unless it is arithmetic on sizes, which tracing records too."""
    return int(len(outputs[0].type().sizes() or ()) > 0)


exact = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def assert_equals_fvcore(arch: Arch, tokens: int) -> None:
    size = smallest_latent(arch)
    counted = count(arch, latent_size=size, text_tokens=tokens)
    analysis = fvcore_of(arch, size, tokens)
    # Give the operators without a count one of their own, the number of calls: one trace for all.
    uncounted = {*counted.uncounted, "aten::add", "aten::mul", "aten::div"}
    analysis.set_op_handle(**dict.fromkeys(uncounted, on_data))
    theirs = analysis.by_operator()
    calls = {f"aten::{op}": n for op, n in theirs.items() if f"aten::{op}" in uncounted and n}

    assert counted.uncounted == calls
    assert not analysis.unsupported_ops()
    ours = {k: v for k, v in by_operator(counted).items() if k != "scaled_dot_product_attention"}
    assert ours == {op: int(n) for op, n in theirs.items() if f"aten::{op}" not in uncounted}
    assert counted.total(sdpa=False) == sum(ours.values())


@exact
@given(unets(), st.integers(2, 9))
def test_a_unet_counts_exactly_as_fvcore_does(arch: Arch, tokens: int) -> None:
    assert_equals_fvcore(arch, tokens)


@exact
@given(if_unets(), st.integers(2, 9))
def test_an_if_unet_counts_exactly_as_fvcore_does(arch: Arch, tokens: int) -> None:
    assert_equals_fvcore(arch, tokens)


@exact
@given(pixarts(), st.integers(2, 9))
def test_a_pixart_counts_exactly_as_fvcore_does(arch: Arch, tokens: int) -> None:
    assert_equals_fvcore(arch, tokens)


@exact
@given(archs)
def test_attention_is_what_fvcore_counts_inside_the_attention_modules(arch: Arch) -> None:
    size = smallest_latent(arch)
    counted = count(arch, latent_size=size, text_tokens=7)
    analysis = fvcore_of(arch, size, 7)
    inside: dict[bool, float] = {False: 0, True: 0}  # in the mid block?
    for name, macs in analysis.by_module().items():
        path = name.split(".")
        if path[-2:-1] == ["attentions"] or (
            arch.FAMILY == "pixart" and path[-2:-1] == ["transformer_blocks"]
        ):
            inside["mid_block" in path] += macs
    assert counted.total(sdpa=False, attention_only=True) == sum(inside.values())
    assert counted.total(sdpa=False, attention_only=True, without=["mid"]) == inside[False]


@settings(exact, max_examples=20)
@given(archs, st.integers(2, 9))
def test_matrix_products_and_convolutions_equal_torchs_flop_counter(
    arch: Arch, tokens: int
) -> None:
    # torch counts 2 operations a multiply-add, of products and convolutions only: SDPA's two
    # included, norms, resampling and einsum's transposition not.
    size = smallest_latent(arch)
    with torch.no_grad(), torch.device("meta"):
        model, inputs = Called(arch.build(size).eval()), call_inputs(arch, size, tokens)
        with FlopCounterMode(display=False) as counter:
            model(*inputs)
    ours = by_operator(count(arch, latent_size=size, text_tokens=tokens))
    products = sum(macs for operator, macs in ours.items() if operator not in NOT_PRODUCTS)
    assert 2 * products == counter.get_total_flops()


@settings(exact, max_examples=20)
@given(archs)
def test_levels_add_up(arch: Arch) -> None:
    result = profile(arch, latent_size=smallest_latent(arch), text_tokens=7)
    model = arch.build(smallest_latent(arch))
    assert result.params == sum(p.numel() for p in model.parameters())
    assert sum(level.params for level in result.levels) == result.params
    assert sum(level.gmacs for level in result.levels) == pytest.approx(result.gmacs)
    attention = sum(level.attention_gmacs for level in result.levels)
    assert attention == pytest.approx(result.attention_gmacs)
    assert result.attention_share == pytest.approx(result.attention_gmacs / result.gmacs)


@pytest.mark.parametrize("row", reported(), ids=lambda row: f"{row.name}-{row.text_tokens}")
def test_the_papers_rows_come_out(row: Reported) -> None:
    result = profile(lookup(row.name), text_tokens=row.text_tokens)
    assert result.name == row.name
    # Within 0.5 %, or the printed value itself where its two decimals are coarser than that.
    assert result.params / 1e9 == pytest.approx(row.params_b, rel=0.005, abs=0.005)
    gmacs_off = abs(result.gmacs_paper - row.gmacs)
    assert (gmacs_off > 1) == (row.does_not_fit == "gmacs")
    if row.attention_gmacs is not None:
        with_mid, no_mid = result.attention_gmacs_paper, result.attention_gmacs_paper_no_mid
        off = min(abs(with_mid - row.attention_gmacs), abs(no_mid - row.attention_gmacs))
        assert (off > 1) == (row.does_not_fit == "attention_gmacs")


def test_the_two_entries_that_do_not_fit_are_what_they_are() -> None:
    td4_8 = profile(lookup("SDXL-TD4_8"))
    assert td4_8.attention_gmacs_paper_no_mid == pytest.approx(125.5, abs=0.05)  # printed: 123
    original = profile(lookup("PixArt-XL/2"), text_tokens=120)
    assert original.gmacs_paper == pytest.approx(142.9, abs=0.05)  # printed: 139
    assert profile(lookup("PixArt-XL/2"), text_tokens=77).gmacs_paper == pytest.approx(139, abs=1)


def test_sdxls_profile_in_full() -> None:
    result = profile(lookup("SDXL-C320"))
    assert result.params == 2_391_824_644
    # 5 modules of 2 blocks, 5 of 10 and the mid block's 10, with two attentions each.
    assert result.uncounted_ops["aten::scaled_dot_product_attention"] == 140
    assert [level.level for level in result.levels] == ["1x", "2x", "4x", "mid", "outside"]
    assert result.levels[0].attention_gmacs == 0
    # The two products of each attention, by hand: 16x16 tokens at 2x, 8x8 at 4x and mid.
    by_hand = 0
    for blocks, side, width in ((2 * 5, 16, 640), (10 * 5, 8, 1280), (10, 8, 1280)):
        by_hand += blocks * side**2 * (side**2 + 77) * 2 * width
    assert result.gmacs - result.gmacs_paper == pytest.approx(by_hand / 1e9)


def test_text_and_latents_of_other_sizes_count() -> None:
    arch = lookup("SDXL-TD2")
    plain = profile(arch)
    assert profile(arch, text_tokens=154).gmacs > plain.gmacs
    large = profile(arch, latent_size=64)
    assert large.params == plain.params
    assert 3.9 < large.gmacs / plain.gmacs < 4.2
    with pytest.raises(ArchError, match=r"latent_size: got 30; expected a multiple of 4"):
        profile(arch, latent_size=30)


def test_a_control_without_attention_has_no_share() -> None:
    arch = lookup("SDXL-C128").model_copy(update={"transformer_depth": (0, 0, 0), "mid_depth": 0})
    result = profile(arch)
    assert result.attention_share == 0
    assert "aten::scaled_dot_product_attention" not in result.uncounted_ops


def test_no_row_needs_memory_for_its_weights() -> None:
    script = (
        "import json, resource, sys\n"
        "from nas_t2i.arch.catalog import CATALOG\n"
        "from nas_t2i.arch.profile import profile\n"
        "for arch in CATALOG.values(): profile(arch)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "unit = 1 if sys.platform == 'darwin' else 1024\n"
        "print(json.dumps([len(CATALOG), used.ru_maxrss * unit]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    rows, peak = json.loads(done.stdout)
    assert rows == 21
    assert peak < 1.5 * 2**30
