"""Everything that may be written for an architecture, and what is said when it can't be used."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from nas_t2i.arch.catalog import CATALOG, lookup
from nas_t2i.arch.resolve import resolve_arch
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import UserError
from tests.arch.strategies import archs

# As published beside SDXL's weights, less the keys that stand at their defaults.
SDXL_CONFIG: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.19.0.dev0",
    "act_fn": "silu",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_num_groups": 32,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "upcast_attention": None,
    "use_linear_projection": True,
}
SD2_CONFIG: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "sample_size": 64,
    "use_linear_projection": True,
}
# PixArt-alpha's, under the name that its class had at first.
PIXART_CONFIG: dict[str, Any] = {
    "_class_name": "Transformer2DModel",
    "attention_head_dim": 72,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "caption_channels": 4096,
    "cross_attention_dim": 1152,
    "double_self_attention": False,
    "in_channels": 4,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "norm_type": "ada_norm_single",
    "num_embeds_ada_norm": 1000,
    "num_layers": 28,
    "num_vector_embeds": None,
    "out_channels": 8,
    "patch_size": 2,
    "sample_size": 32,
}


def write(folder: Path, data: Any, name: str = "config.json") -> str:
    path = folder / name
    path.write_text(json.dumps(data, indent=1))
    return str(path)


def said(text: str) -> str:
    with pytest.raises(UserError) as error:
        resolve_arch(text)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", CATALOG)
def test_a_name_of_the_catalogue(name: str) -> None:
    assert resolve_arch(name) == (name, lookup(name), ())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("family=unet,channels=320,channel_mult=[1,2,4],transformer_depth=[0,2,10]", "SDXL-C320"),
        (
            "family=unet, channels = 320, channel_mult=[1, 2, 4], transformer_depth={2: 4, 4: 4}",
            "SDXL-TD4_4",
        ),
        (
            "family=pixart,hidden=1024,depth=56,caption_embedding=false",
            "PixArt-h1024-d56",
        ),
        ("family=pixart,hidden=768,depth=8", "pixart-h768-d8"),
    ],
)
def test_inline_parameters(text: str, name: str) -> None:
    assert resolve_arch(text).name == name


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_a_file_of_an_architecture(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, lookup("IF-XL-C704").canonical(), f"mine.{suffix}")
    assert resolve_arch(path) == ("IF-XL-C704", lookup("IF-XL-C704"), ())


@pytest.mark.parametrize("name", CATALOG)
def test_a_diffusers_config_of_every_backbone(tmp_path: Path, name: str) -> None:
    class_name, config = lookup(name).diffusers_config(32)
    assert resolve_arch(write(tmp_path, {"_class_name": class_name, **config})).name == name


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(archs)
def test_a_saved_config_names_the_architecture(tmp_path: Path, arch: Arch) -> None:
    class_name, config = arch.diffusers_config(8)
    resolved = resolve_arch(write(tmp_path, {"_class_name": class_name, **config}))
    assert resolved.arch.arch_id == arch.arch_id


def test_published_configs(tmp_path: Path) -> None:
    sdxl = resolve_arch(write(tmp_path, SDXL_CONFIG))
    assert sdxl.arch == lookup("SDXL-C320").model_copy(update={"text_dim": 2048})
    assert [note for note in sdxl.notes if "addition_embed_type" in note]
    assert resolve_arch(write(tmp_path, SD2_CONFIG)) == ("SD2-C320", lookup("SD2-C320"), ())
    assert resolve_arch(write(tmp_path, PIXART_CONFIG)).name == "PixArt-XL/2"
    # At this size diffusers adds size conditions unless told not to.
    large = resolve_arch(write(tmp_path, {**PIXART_CONFIG, "sample_size": 128}))
    assert large.name == "PixArt-XL/2"
    assert "size conditions are left out" in large.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "gelu"}, ':4:2: act_fn: got "gelu", which no architecture of the family unet'),
        ({"use_linear_projection": False}, "use_linear_projection: got false"),
        ({"attention_head_dim": 8}, "attention_head_dim: got 8"),
        ({"attention_head_dim": [5, 10]}, "attention_head_dim: got [5, 10]; expected a number, or"),
        ({"out_channels": 8}, "out_channels: got 8"),
        ({"class_embed_type": "timestep"}, 'class_embed_type: got "timestep"'),
        ({"layers_per_block": [2, 2, 3]}, "layers_per_block: got [2, 2, 3]"),
        ({"layers_per_block": "two"}, 'layers_per_block: got "two"; expected a valid integer'),
        ({"mid_block_type": None}, "mid_block_type: got null"),
        ({"encoder_hid_dim": 768}, "encoder_hid_dim: got 768"),
        (
            {"block_out_channels": [320, 700, 1280]},
            "block_out_channels: got 20 channels x 35 = 700 at rate 2; expected a multiple",
        ),
        ({"block_out_channels": 320}, "block_out_channels: got 320; expected a list of widths"),
        ({"down_block_types": ["DownBlock2D"]}, "down_block_types: got"),
        (
            {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2", "DownBlock2D"]},
            "did you mean 'CrossAttnDownBlock2D'?",
        ),
        ({"up_block_types": ["UpBlock2D"] * 3}, "up_block_types: got"),
        ({"croos_attention_dim": 7}, "unknown key 'croos_attention_dim'"),
        ({"_class_name": "UNet2DModel"}, "did you mean 'UNet2DConditionModel'?"),
        ({"norm_num_groups": 33}, "block_out_channels: got 320 channels x 1 = 320 at"),
    ],
)
def test_what_a_config_can_not_say_names_the_key(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, {**SDXL_CONFIG, **change})
    text = said(path)
    assert message in text
    assert text.startswith(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"only_cross_attention": True}, "only_cross_attention: got true; expected false"),
        ({"out_channels": 4}, "out_channels: got 4"),
        ({"cross_attention_dim": 1024}, "cross_attention_dim: got 1024"),
        ({"num_attention_heads": 0}, "num_attention_heads: got 0; expected a whole number above 0"),
    ],
)
def test_what_a_pixart_config_can_not_say(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    assert message in said(write(tmp_path, {**PIXART_CONFIG, **change}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SDXL-TD44", "did you mean 'SDXL-TD4_4'?"),
        ("zzz", "the backbones of the paper: SD2-C320, "),
        ("family=unett,channels=3", "did you mean 'unet'?"),
        ("channels=3", "the key 'family' is missing"),
        ("family=unet,channels=320,channels=3", "the key 'channels' stands twice"),
        ("family=unet,channels=[1", "channels: got '[1'; expected a value, a [list]"),
        ("family=pixart,hidden=77,depth=1", "hidden: got 77; expected a multiple of heads = 16"),
        ("nothing.yaml", "nothing.yaml: no such file"),
    ],
)
def test_what_names_nothing(text: str, message: str) -> None:
    assert message in said(text)


def test_a_place_in_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("family: unet\nchannels: 320\nchannel_mult: [1, 2]\ntransformer_depth: [0]\n")
    assert said(str(path)) == (
        f"{path}:4:1: transformer_depth: got 1 values; expected 2, one for each level of "
        "channel_mult"
    )
