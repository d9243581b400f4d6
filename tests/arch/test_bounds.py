"""What a space may ask for: refused in one line, in a moment, before anything is counted."""

import subprocess
import sys
from pathlib import Path

import pytest

from nas_t2i.arch.catalog import CATALOG
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.errors import ArchError, ConfigError
from nas_t2i.yaml_files import parse_document

UNET = {
    "family": "unet",
    "channels": 320,
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 2, 10],
}
PIXART = {"family": "pixart", "hidden": 1152, "depth": 28}


@pytest.mark.parametrize(
    ("family", "change", "expected"),
    [
        (UNET, {"transformer_depth": [0, 2, 1_000_000]}, "transformer_depth.*at most 512"),
        (UNET, {"transformer_depth": {"4": 1_000_000}}, "transformer_depth.*at most 512"),
        (UNET, {"res_blocks": 5000}, "res_blocks: got 5000; expected at most 64"),
        (UNET, {"res_blocks": 60}, "res_blocks: got 60, which makes 1825 residual"),
        (UNET, {"channel_mult": [1, 2, 40_000_000]}, "channel_mult.*at most 16384"),
        (UNET, {"channel_mult": [1, 2, 400]}, "channels: got 320 channels x 400 = 128000"),
        (UNET, {"channel_mult": [1] * 30}, "channel_mult: got 30 levels; expected at most 8"),
        (UNET, {"text_dim": 10**30}, "text_dim.*at most 65536"),
        (UNET, {"mid_depth": 10**6}, "mid_depth.*at most 512"),
        (PIXART, {"depth": 20_000}, "depth: got 20000; expected at most 512"),
        (PIXART, {"hidden": 4 * 10**9}, "hidden.*at most 16384"),
        (PIXART, {"patch": 10**9}, "patch.*at most 64"),
    ],
)
def test_too_large_is_refused(family, change, expected):
    with pytest.raises(ArchError, match=expected):
        arch_from_dict(family | change)


def test_the_bounds_are_generous():
    for arch in CATALOG.values():
        assert arch_from_dict(arch.canonical()) == arch
    # Ten times the blocks of SDXL, and the widest transformer ever trained.
    arch_from_dict(UNET | {"transformer_depth": [0, 20, 100], "res_blocks": 3})
    arch_from_dict(PIXART | {"hidden": 16_384, "depth": 126})


def test_validate_refuses_before_torch_is_loaded(tmp_path: Path):
    file = tmp_path / "deep.yaml"
    file.write_text(
        "name: deep\nfamily: unet\nparameters:\n  channels: 320\n  channel_mult: [1, 2, 4]\n"
        "  res_blocks: 5000\n  transformer_depth: 0\n"
    )
    code = (
        "import sys\n"
        "from nas_t2i.cli.main import main\n"
        "try:\n"
        f"    main(['validate', {str(file)!r}])\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        f"nas-t2i: error: {file}:6:3: parameters.res_blocks: got 5000; expected a whole number "
        "from 1 to 64\n",
    )


def test_a_wide_range_of_yaml_numbers_is_no_traceback():
    with pytest.raises(ConfigError, match="digits"):
        parse_document(f"a: {'9' * 400}", "x.yaml")
