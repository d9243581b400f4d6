"""What is accepted, what is refused and how, what is built, and the proxies."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nas_t2i.arch.catalog import CATALOG, lookup
from nas_t2i.arch.families import arch_from_dict, arch_from_document, family, family_names
from nas_t2i.arch.families.unet import UNet
from nas_t2i.arch.spec import Arch, ProxyRule
from nas_t2i.errors import ArchError, ConfigError
from nas_t2i.yaml_files import parse_document
from tests.arch.strategies import archs

SDXL: dict[str, Any] = {
    "family": "unet",
    "channels": 320,
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 2, 10],
}
RULE = ProxyRule(
    channel_divisor=16,
    channel_multiple=8,
    head_dim=8,
    norm_groups=8,
    depth_divisor=4,
    res_block_divisor=2,
    transformer_depth_divisor=8,
)


# ---- spellings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        {"transformer_depth": {2: 2, 4: 10}},
        {"transformer_depth": {"1": 0, "2": 2, "4": 10}},
        {"transformer_depth": (0, 2, 10), "channel_mult": (1, 2, 4)},
        {"attention_resolutions": [4, 2]},
        {"transformer_depth": {2: 2, 4: 10}, "attention_resolutions": [2, 4]},
        {"channels": 160, "channel_mult": [2, 4, 8]},
        {"mid_depth": 10},
        {"mid_depth": None},
        {"head_dim": 64, "norm_groups": 32, "res_blocks": 2, "text_dim": 1024},
    ],
)
def test_every_spelling_is_the_same_architecture(spelling: dict[str, Any]) -> None:
    assert arch_from_dict({**SDXL, **spelling}) == lookup("SDXL-C320")


def test_without_attention_heads_and_text_are_no_part_of_the_id() -> None:
    plain = {**SDXL, "transformer_depth": {}}
    one, other = arch_from_dict(plain), arch_from_dict({**plain, "head_dim": 32, "text_dim": 512})
    assert one.arch_id == other.arch_id
    assert "head_dim" not in one.canonical()
    assert arch_from_dict(one.canonical()).arch_id == one.arch_id
    assert one.arch_id != arch_from_dict({**plain, "norm_groups": 16}).arch_id


@settings(max_examples=100, deadline=None)
@given(archs)
def test_the_canonical_form_is_the_architecture(arch: Arch) -> None:
    again = arch_from_dict(arch.canonical())
    assert again.arch_id == arch.arch_id
    assert again.label() == arch.label()


@settings(max_examples=200, deadline=None)
@given(archs, archs)
def test_labels_tell_architectures_apart(one: Arch, other: Arch) -> None:
    assert (one.label() == other.label()) == (one.arch_id == other.arch_id)


# ---- refusals ----------------------------------------------------------------------------------

REFUSED = [
    ({"family": "unett"}, 'family: got "unett"; expected one of if_unet, pixart, unet; did you'),
    ({"family": None}, "family: got null; expected one of"),
    ({"channels": 0}, "channels: got 0; expected at least 1"),
    ({"channels": "320"}, 'channels: got "320"; expected a valid integer'),
    ({"channels": 328}, "channels: got 328 channels x 1 = 328 at rate 1; expected a multiple of"),
    ({"channels": 96}, "96 channels x 2 = 192 at rate 2; expected a multiple of head_dim = 128"),
    ({"channel_mult": []}, "channel_mult: got []; expected at least one level"),
    ({"channel_mult": [1, 2, 0]}, "channel_mult[2]: got 0; expected at least 1"),
    ({"channel_mult": 4}, "channel_mult: got 4; expected a list"),
    ({"channel_mult": [1, 2]}, "transformer_depth: got 3 values; expected 2, one for each level"),
    ({"transformer_depth": [0, 2, -1]}, "transformer_depth[2]: got -1; expected at least 0"),
    ({"transformer_depth": {3: 1}}, "transformer_depth.3: got the rate 3; expected one of 1, 2, 4"),
    ({"transformer_depth": {8: 1}}, "got the rate 8; expected one of 1, 2, 4"),
    ({"transformer_depth": {2: 1, "2": 3}}, "the rate 2 stands twice; expected each rate once"),
    ({"transformer_depth": {4: -2}}, "got -2; expected a whole number of at least 0"),
    (
        {"attention_resolutions": [4]},
        "got depth 2 at rate 2, where attention_resolutions [4] allow",
    ),
    (
        {"attention_resolutions": [1, 2, 4]},
        "attention_resolutions[0]: got 1, but transformer_depth",
    ),
    ({"attention_resolutions": [2, 4, 8]}, "attention_resolutions[2]: got 8; expected one of the"),
    (
        {"attention_resolutions": 4},
        "attention_resolutions: got 4; expected a list of down-sampling",
    ),
    ({"mid_depth": 3}, "mid_depth: got 3; expected 0 or 10, the transformer_depth of the deepest"),
    ({"mid_depth": -1}, "mid_depth: got -1; expected at least 0"),
    ({"res_blocks": 0}, "res_blocks: got 0"),
    ({"chanels": 1}, "unknown key 'chanels'"),
    ({"family": "if_unet"}, "transformer_depth[1]: got 2; expected at most 1"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_refusal_is_one_line_that_says_what_was_expected(
    change: dict[str, Any], message: str
) -> None:
    data = {**SDXL, **change}
    if data["channels"] == 96:
        data["head_dim"] = 128
    with pytest.raises(ArchError) as error:
        arch_from_dict(data)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "the key 'family' is missing; expected one of if_unet, pixart, unet"),
        ({"family": "unet"}, "the key 'channels' is missing; (and 2 more)"),
        (
            {"family": "pixart", "hidden": 1000, "depth": 2},
            "hidden: got 1000; expected a multiple of heads = 16",
        ),
        (
            {"family": "pixart", "hidden": 18, "heads": 3, "depth": 2},
            "hidden: got 18; expected a multiple of 4",
        ),
        (
            {"family": "pixart", "hidden": 1152, "depth": 2, "caption_embedding": False},
            "caption_embedding: got false with hidden 1152 and text_dim 1024; expected true, or",
        ),
        (
            {**SDXL, "family": "if_unet", "transformer_depth": [0, 1, 1], "text_dim": 100},
            "text_dim: got 100; expected a multiple of 32",
        ),
    ],
)
def test_more_refusals(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchError) as error:
        arch_from_dict(data)
    assert message in str(error.value)


def test_a_refusal_names_its_origin() -> None:
    with pytest.raises(ArchError, match=r"^--arch: channels: got 0; "):
        arch_from_dict({**SDXL, "channels": 0}, origin="--arch")


def test_the_constructor_refuses_too() -> None:
    with pytest.raises(ValidationError, match="expected a multiple of norm_groups"):
        UNet(channels=10, channel_mult=(1,), transformer_depth=(0,))


def test_a_refusal_in_a_file_has_a_place() -> None:
    text = "trial:\n  arch:\n    family: unet\n    channels: 320\n    channel_mult: [1, 2]\n"
    text += "    transformer_depth:\n      2: 1\n      16: 4\n"
    with pytest.raises(ConfigError) as error:
        arch_from_document(parse_document(text, "a.yaml"), ("trial", "arch"))
    assert str(error.value) == (
        "a.yaml:8:7: trial.arch.transformer_depth.16: got the rate 16; expected one of 1, 2"
    )
    bad = text.replace("16: 4", "1: 0").replace("channels:", "chanels:")
    with pytest.raises(ConfigError) as error:
        arch_from_document(parse_document(bad, "a.yaml"), ("trial", "arch"))
    assert str(error.value).startswith("a.yaml:3:5: ") or str(error.value).startswith("a.yaml:4:5:")
    assert "did you mean 'channels'?" in str(error.value)
    good = parse_document(text.replace("16: 4", "1: 0"), "a.yaml")
    assert arch_from_document(good, ("trial", "arch")).label() == "unet-C320-m1.2-TD0.1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channels: 3\n", "a.yaml:1:1: the key 'family' is missing"),
        ("channels: 3\nfamily: [unet]\n", 'a.yaml:2:1: family: got ["unet"]; expected one of'),
        ("channels: 3\nfamily: unte\n", 'a.yaml:2:1: family: got "unte"; expected one of'),
    ],
)
def test_a_file_without_a_family_has_a_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        arch_from_document(parse_document(text, "a.yaml"))
    assert message in str(error.value)


# ---- what is built -----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(archs, st.integers(2, 5))
def test_a_model_predicts_the_noise_of_its_latents(arch: Any, tokens: int) -> None:
    size = 8
    model = arch.build(size).eval()
    latents = torch.zeros(2, arch.latent_channels, size, size)
    with torch.no_grad():
        output = model(
            latents,
            timestep=torch.zeros(2),
            encoder_hidden_states=torch.zeros(2, tokens, arch.text_dim),
            return_dict=False,
        )[0]
    channels = arch.latent_channels * (2 if arch.FAMILY == "pixart" else 1)
    assert output.shape == (2, channels, size, size)
    assert output.isfinite().all()


def test_pixart_without_a_caption_embedding_reads_the_text_as_it_is() -> None:
    data = {"family": "pixart", "hidden": 32, "heads": 4, "depth": 1, "text_dim": 32}
    model: Any = arch_from_dict({**data, "caption_embedding": False}).build(8)
    assert model.caption_projection is None
    assert model.transformer_blocks[0].attn2.to_k.in_features == 32


def test_heads_have_the_width_that_was_asked_for() -> None:
    data = {"channels": 32, "channel_mult": [1, 2], "head_dim": 16, "norm_groups": 8}
    unet: Any = arch_from_dict({**data, "family": "unet", "transformer_depth": [1, 1]}).build(8)
    if_unet: Any = arch_from_dict({**data, "family": "if_unet", "transformer_depth": [1, 1]}).build(
        8
    )
    for model, attention in (
        (unet, unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1),
        (unet, unet.mid_block.attentions[0].transformer_blocks[0].attn2),
        (if_unet, if_unet.down_blocks[1].attentions[0]),
        (if_unet, if_unet.mid_block.attentions[0]),
    ):
        assert model.config.norm_num_groups == 8
        assert attention.heads == 64 // 16


@pytest.mark.parametrize(("name", "size"), [("SD2-C320", 12), ("SDXL-C320", 2), ("PixArt-XL/2", 9)])
def test_latents_that_do_not_fit_are_refused(name: str, size: int) -> None:
    with pytest.raises(ArchError, match=f"latent_size: got {size}; expected a multiple of"):
        lookup(name).build(size)


def test_families_are_loaded_without_torch() -> None:
    script = (
        "import sys, nas_t2i.arch.catalog, nas_t2i.arch.families as f\n"
        "[f.family(name) for name in f.family_names()]\n"
        "assert not {'torch', 'diffusers', 'fvcore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert {family(name).FAMILY for name in family_names()} == set(family_names())


# ---- proxies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOG)
def test_every_backbone_has_a_proxy_that_trains_at_a_latent_of_8(name: str) -> None:
    proxy: Any = lookup(name).proxy(RULE, latent_channels=3, text_dim=32)
    model = proxy.build(8)
    output = model(
        torch.randn(2, 3, 8, 8),
        timestep=torch.tensor([1.0, 999.0]),
        encoder_hidden_states=torch.randn(2, 5, 32),
        return_dict=False,
    )[0]
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_proxy_follows_the_rule() -> None:
    proxy = lookup("SDXL-TD4_8").proxy(RULE, latent_channels=3, text_dim=48)
    assert proxy.canonical() == {
        "family": "unet",
        "channels": 16,  # 320 / 16 = 20; ties go to the even multiple of 8
        "channel_mult": [1, 2, 4],
        "res_blocks": 1,
        "transformer_depth": [0, 1, 2],
        "mid_depth": 2,
        "head_dim": 8,
        "norm_groups": 8,
        "text_dim": 48,
        "latent_channels": 3,
    }
    pixart = lookup("PixArt-h1024-d28").proxy(RULE, latent_channels=3, text_dim=48)
    # Its text is no longer as wide as the model.
    assert pixart.canonical()["caption_embedding"] is True
    assert pixart.canonical()["depth"] == 4
    same_width = lookup("PixArt-h1024-d28").proxy(RULE, latent_channels=3, text_dim=64)
    assert same_width.canonical()["caption_embedding"] is False


def test_a_rule_that_gives_nothing_buildable_is_refused() -> None:
    rule = RULE.model_copy(update={"norm_groups": 7})
    with pytest.raises(ArchError, match=r"^proxy of unet-C320.*expected a multiple of norm_groups"):
        lookup("SDXL-C320").proxy(rule, latent_channels=3, text_dim=32)
    wide_heads = RULE.model_copy(update={"head_dim": 64})
    with pytest.raises(ArchError, match=r"^proxy of pixart.*hidden: got 72; .* head_dim = 64"):
        lookup("PixArt-XL/2").proxy(wide_heads, latent_channels=3, text_dim=32)
