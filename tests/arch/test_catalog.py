import csv
from importlib import resources

import pytest

from nas_t2i.arch.catalog import CATALOG, lookup, name_of, reported
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.families.unet import UNet
from nas_t2i.errors import ArchError


def test_all_21_backbones_are_there_and_differ() -> None:
    assert len(CATALOG) == 21
    assert len({arch.arch_id for arch in CATALOG.values()}) == 21
    families = [arch.FAMILY for arch in CATALOG.values()]
    assert [families.count(name) for name in ("unet", "if_unet", "pixart")] == [14, 2, 5]


def test_ids_are_stable() -> None:
    # Records are found by these ids: a change here orphans every record ever written.
    assert lookup("SDXL-C320").arch_id == "unet-98996581068d"
    assert lookup("IF-XL-C512").arch_id == "if_unet-11ae209e4bf4"
    assert lookup("PixArt-h1024-d28").arch_id == "pixart-7304d8ae5f88"


@pytest.mark.parametrize("name", CATALOG)
def test_names_survive_the_canonical_form(name: str) -> None:
    arch = arch_from_dict(lookup(name).canonical())
    assert arch == lookup(name)
    assert name_of(arch) == name


def test_what_the_paper_does_not_name_has_its_label() -> None:
    arch = UNet(channels=256, channel_mult=(1, 2), transformer_depth=(0, 3))
    assert name_of(arch) == arch.label() == "unet-C256-m1.2-TD0.3"


def test_the_mid_block_is_as_deep_as_the_deepest_level_with_attention() -> None:
    assert lookup("SDXL-TD4_8").canonical()["mid_depth"] == 8
    assert lookup("SD2-C320").canonical()["mid_depth"] == 1


def test_an_unknown_name_has_a_nearest_one() -> None:
    with pytest.raises(ArchError, match="did you mean 'SDXL-TD4_4'") as error:
        lookup("sdxl-td44")
    assert "\n" not in str(error.value)
    with pytest.raises(ArchError, match=r"the names are SD2-C320, .*PixArt-h1024-d56"):
        lookup("zzz")


def test_every_backbone_is_reported() -> None:
    assert {row.name for row in reported()} == set(CATALOG)
    # One of them stands at two text lengths.
    assert len(reported()) == 22
    assert [row.name for row in reported() if row.does_not_fit] == ["SDXL-TD4_8", "PixArt-XL/2"]


def test_the_reported_values_are_package_data() -> None:
    text = resources.files("nas_t2i.arch").joinpath("reported.csv").read_text()
    row = next(row for row in csv.DictReader(text.splitlines()) if row["name"] == "SDXL-TD4_4")
    assert (row["params_b"], row["gmacs"], row["attention_gmacs"]) == ("1.32", "143", "84")
