"""Spaces against a plain re-implementation of their meaning: product, mask, build, deduplicate."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nas_t2i.arch import survey
from nas_t2i.arch.axes import GROWING
from nas_t2i.arch.catalog import lookup
from nas_t2i.arch.choices import RandomChooser, Recorded, Scalar
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.space import Space, load_space, space_from_document
from nas_t2i.arch.space_file import read_space_file
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError, ConfigError
from nas_t2i.yaml_files import parse_document


def space_of(text: str | dict[str, Any]) -> Space:
    # JSON is YAML, but for integer keys.
    return space_from_document(
        parse_document(text if isinstance(text, str) else as_yaml(text), "space.yaml")
    )


def as_yaml(data: Any) -> str:
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key}: {as_yaml(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(as_yaml(item) for item in data) + "]"
    return json.dumps(data)


SMALL = """
name: small
family: unet
parameters:
  channels: {choice: [64, 96, 128]}
  channel_mult: {choice: {sdxl: [1, 2, 4], sd2: [1, 2, 4, 4]}}
  res_blocks: {range: [1, 2]}
  attention_resolutions: {choice: {low: [4], both: [4, 2], deep: [8, 4]}}
  transformer_depth: {2: {choice: [0, 2]}, 4: {range: [2, 10, 4]}, 8: {choice: [1, 3]}}
"""

# ---- the oracle ---------------------------------------------------------------------------------


def every(value: Any, *, per_rate: bool = False) -> list[Any]:
    """All plain values that a value of a file stands for."""
    if isinstance(value, dict) and "choice" in value:
        options = value["choice"]
        options = options.values() if isinstance(options, dict) else options
        return [plain for option in options for plain in every(option, per_rate=per_rate)]
    if isinstance(value, dict) and "range" in value:
        low, high, step = [*value["range"], 1][:3]
        return list(range(low, high + 1, step))
    if isinstance(value, dict):
        return [
            dict(zip(value, plain, strict=True))
            for plain in itertools.product(*map(every, value.values()))
        ]
    if isinstance(value, list):
        return [list(plain) for plain in itertools.product(*map(every, value))]
    return [value]


def buildable(data: dict[str, Any]) -> dict[str, Arch]:
    """All different architectures of a space, by id, the slow way."""
    found = {}
    names = list(data["parameters"])
    for values in itertools.product(*(every(data["parameters"][name]) for name in names)):
        arch = dict(zip(names, values, strict=True))
        if "transformer_depth" in arch:
            depths, levels = arch["transformer_depth"], len(arch["channel_mult"])
            rates = [2**level for level in range(levels)]
            attending = arch.pop("attention_resolutions", rates)
            if isinstance(depths, list):
                if len(depths) != levels:
                    continue
                depths = dict(zip(rates, depths, strict=True))
            if not isinstance(depths, dict):
                depths = dict.fromkeys(rates, depths)
            if attending is not rates and not set(rates) & set(attending) <= depths.keys():
                continue
            arch["transformer_depth"] = {
                rate: depths.get(rate, 0) for rate in rates if rate in attending
            }
        try:
            built = arch_from_dict({"family": data["family"], **arch})
        except ArchError:
            continue
        found[built.arch_id] = built
    return found


# ---- random spaces ------------------------------------------------------------------------------


def free(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """A fixed value, or a choice of some, with or without names."""
    some = st.lists(st.sampled_from(values), min_size=1, max_size=3, unique_by=json.dumps)
    named = some.map(lambda chosen: {f"n{i}": value for i, value in enumerate(chosen)})
    return st.one_of(
        st.sampled_from(values),
        some.map(lambda chosen: {"choice": chosen}),
        named.map(lambda chosen: {"choice": chosen}),
    )


depth = st.one_of(
    free([0, 1, 2, 5]),
    st.sampled_from([{"range": [0, 2]}, {"range": [1, 5, 2]}, {"range": [0, 0]}]),
)
levels = st.one_of(
    free([[1], [1, 2], [1, 2, 4], [2, 1, 3, 4]]),
    free([[3, 1], [1, 3], [2, 2]]),
    st.just([1, {"choice": [2, 3]}]),
    st.just({"choice": {"two": [1, {"choice": [2, 3]}], "three": [1, 2, 4]}}),
)
depths = st.one_of(
    st.fixed_dictionaries({1: depth, 2: depth, 4: depth, 8: depth}),
    depth,
    st.lists(depth, min_size=1, max_size=3),
    st.just({"choice": {"a": {1: 1, 2: {"choice": [1, 2]}}, "b": {1: 1, 2: {"choice": [2, 3]}}}}),
)
unet_spaces = st.fixed_dictionaries(
    {
        "channels": free([32, 64, 96, 128]),
        "channel_mult": levels,
        "transformer_depth": depths,
    },
    optional={
        "res_blocks": st.one_of(free([1, 2, 3]), st.just({"range": [1, 4, 3]})),
        "attention_resolutions": st.one_of(
            free([[], [1], [2, 1], [4, 2]]), st.just([1, {"choice": [2, 4]}])
        ),
        "mid_depth": free([0, 1, 2]),
        "head_dim": free([32, 64]),
        "norm_groups": free([32, 24]),
        "text_dim": free([512, 1024]),
    },
).map(lambda parameters: {"name": "s", "family": "unet", "parameters": parameters})
pixart_spaces = st.fixed_dictionaries(
    {
        "hidden": free([96, 100, 128]),
        "depth": st.one_of(free([1, 2, 3]), st.just({"range": [1, 3]})),
    },
    optional={
        "heads": free([4, 16]),
        "caption_embedding": free([True, False]),
        "text_dim": free([96, 128]),
    },
).map(lambda parameters: {"name": "s", "family": "pixart", "parameters": parameters})
spaces = st.one_of(unet_spaces, pixart_spaces)


def unchecked(data: dict[str, Any]) -> Space:
    """A space, even if some of what it says is of no use."""
    document = parse_document(as_yaml(data), "space.yaml")
    file = read_space_file(document)
    return Space(file.name, file.family, file.axes, file.included, file.limits, document)


@settings(max_examples=150, deadline=None)
@given(spaces)
def test_what_a_space_holds_is_what_its_meaning_says(data: dict[str, Any]) -> None:
    expected, space = buildable(data), unchecked(data)
    listed = [arch.arch_id for arch in space.enumerate()]
    assert sorted(listed) == sorted(expected)
    assert space.count_is_exact
    assert space.count() == len(expected)
    if not expected:
        with pytest.raises(ConfigError):
            space_of(data)


@settings(max_examples=100, deadline=None)
@given(spaces, st.randoms(use_true_random=False))
def test_every_architecture_has_labels_and_no_other_does(
    data: dict[str, Any], rng: random.Random
) -> None:
    space = unchecked(data)
    assume(space.count())
    arch = space.sample(rng)
    assert arch.arch_id in buildable(data)
    labels = space.encode(arch)
    assert labels is not None
    assert space.suggest(Recorded(labels)).arch_id == arch.arch_id
    choices = {parameter.name: parameter.choices for parameter in space.parameters}
    assert all(label in choices[name] for name, label in labels.items())
    assert space.encode(lookup("PixArt-h1536-d28")) is None
    assert space.encode(lookup("SDXL-C320")) is None


@settings(max_examples=60, deadline=None)
@given(spaces, st.integers(1, 50), st.booleans())
def test_the_extremes_of_anything_that_grows_are_corners(
    data: dict[str, Any], seed: int, largest: bool
) -> None:
    space = unchecked(data)
    assume(space.count())
    weights = np.random.default_rng(seed)  # one weight a number: any growing function will do
    by_name: dict[str, float] = {}

    def size(arch: Arch) -> float:
        total = 0.0
        data = arch.model_dump()
        if "channel_mult" in data:
            channels = data.pop("channels")
            data["widths"] = tuple(channels * mult for mult in data.pop("channel_mult"))
        # What grows not, and the number of levels, may change the size in any way.
        for name, value in sorted(data.items()):
            values = value if isinstance(value, tuple) else [value]
            for i, number in enumerate([*values, len(values)]):
                growing = i < len(values) and name in GROWING
                key = f"{name}{i}" if growing else f"{name}{i}{number}"
                weight = by_name.setdefault(key, weights.random())
                total += weight * number if growing else 10 * weight
        return total

    pick = max if largest else min
    corners, complete = space.corners(largest=largest, most=10_000)
    assert complete
    archs = list(space.enumerate())
    extreme = pick(archs, key=lambda arch: (size(arch), arch.arch_id))
    assert pick(map(size, corners)) == pytest.approx(size(extreme))
    assert {arch.arch_id for arch in corners} <= {arch.arch_id for arch in archs}


# ---- examples -----------------------------------------------------------------------------------


def test_depths_without_attention_and_rates_without_a_level_make_no_new_architecture() -> None:
    space = space_of(SMALL)
    # At 2x and 4x, 96 channels are 192 and 384 wide: whole heads of 64. Then per width and blocks:
    # sdxl: attention [4] or [8, 4] gives 3 depths at 4x; [4, 2] adds depth 2 at 2x: 3 more.
    # sd2: the same 6, and [8, 4] gives 3 x 2 with a depth at 8x.
    assert space.count() == 3 * 2 * (6 + 12)
    assert len({arch.arch_id for arch in space.enumerate()}) == space.count()


def test_only_parameters_in_use_are_asked_for() -> None:
    space = space_of(SMALL)

    class Asked:
        def __init__(self, mult: str, attention: str) -> None:
            self.answers = {"channel_mult": mult, "attention_resolutions": attention}
            self.names: list[str] = []

        def choose(self, name: str, choices: Sequence[Scalar]) -> Scalar:
            self.names.append(name)
            return self.answers.get(name, choices[0])

    always = ["channels", "channel_mult", "res_blocks", "attention_resolutions"]
    for mult, attention, depths in (
        ("sdxl", "low", [4]),
        ("sdxl", "both", [2, 4]),
        ("sdxl", "deep", [4]),
        ("sd2", "deep", [4, 8]),
    ):
        asked = Asked(mult, attention)
        space.suggest(asked)
        assert asked.names == always + [f"transformer_depth.{rate}" for rate in depths]


def test_parameters_have_stable_names_and_scalar_labels() -> None:
    space = space_of("""
        name: s
        family: unet
        parameters:
          transformer_depth: {4: {choice: {few: 2, many: 10}}, 2: 1}
          channels: {range: [64, 192, 64]}
          channel_mult: {choice: [[1, 2, {choice: [3, 4]}], [1, 2, 4, 4]]}
    """)
    assert [(p.name, p.choices) for p in space.parameters] == [
        ("channels", (64, 128, 192)),
        ("channel_mult", ('[1,2,{"choice":[3,4]}]', "[1,2,4,4]")),
        ("channel_mult.0[2]", (3, 4)),
        ("transformer_depth.4", ("few", "many")),
    ]
    assert space.count() == 3 * 3 * 2


def test_a_combination_that_cannot_be_built_is_left_out_and_says_why() -> None:
    space = space_of("""
        name: s
        family: unet
        parameters:
          channels: {choice: [64, 96]}
          channel_mult: [1, 2]
          attention_resolutions: {choice: {all: [2, 1], low: [2]}}
          transformer_depth: 1
    """)
    assert sorted(arch.label() for arch in space.enumerate()) == [
        "unet-C64-m1.2-TD0.1",
        "unet-C64-m1.2-TD1.1",
        "unet-C96-m1.2-TD0.1",
    ]
    with pytest.raises(ArchError, match="96 at rate 1; expected a multiple of head_dim = 64"):
        space.suggest(Recorded({"channels": 96, "attention_resolutions": "all"}))


def test_members_of_a_range_that_fit_nowhere_are_left_out() -> None:
    space = space_of("""
        name: s
        family: unet
        parameters: {channels: {range: [64, 128, 16]}, channel_mult: [1], transformer_depth: [1]}
    """)
    assert [arch.label() for arch in space.enumerate()] == ["unet-C64-m1-TD1", "unet-C128-m1-TD1"]


def test_included_architectures_belong_to_the_space_wherever_they_are() -> None:
    space = space_of(
        SMALL + "include: [PixArt-h1152-d28, {name: mine, family: unet, "
        "channels: 64, channel_mult: [1, 2, 4], res_blocks: 1, "
        "transformer_depth: {4: 2}}]\n"
    )
    names = [name for name, _ in space.included]
    assert names == ["PixArt-h1152-d28", "mine"]
    assert space.count() == 108 + 1
    listed = list(space.enumerate())
    assert listed[:2] == [arch for _, arch in space.included]
    assert len({arch.arch_id for arch in listed}) == len(listed) == 109
    outside, inside = (arch for _, arch in space.included)
    assert space.encode(outside) is None
    assert space.encode(inside) == {
        "channels": 64,
        "channel_mult": "sdxl",
        "res_blocks": 1,
        "attention_resolutions": "low",
        "transformer_depth.4": 2,
    }


def test_a_plain_list_is_a_space_without_parameters() -> None:
    space = space_of("name: s\ninclude: [SDXL-C320, SD2-C320, PixArt-XL/2]\n")
    assert space.parameters == ()
    assert space.count() == 3
    assert [arch.arch_id for arch in space.enumerate()] == [a.arch_id for _, a in space.included]
    rng = np.random.default_rng(0)
    assert len({space.sample(rng).arch_id for _ in range(50)}) == 3
    assert space.encode(lookup("SDXL-C320")) is None
    with pytest.raises(ArchError, match="no parameters"):
        space.suggest(RandomChooser(rng))


UNEVEN = """
name: uneven
family: unet
parameters:
  channels: {choice: [64, 96]}
  channel_mult: {choice: {two: [1, 2], three: [1, 2, 2]}}
  attention_resolutions: {choice: {"4x": [4], "4x2x": [4, 2], "2x": [2]}}
  transformer_depth: {2: {choice: [0, 1, 2]}, 4: {choice: [0, 3]}}
include: [SDXL-C320]
"""


@pytest.mark.parametrize("too_large_to_survey", [False, True])
def test_samples_are_uniform_over_architectures_not_spellings(
    too_large_to_survey: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = {arch.arch_id for arch in space_of(UNEVEN).enumerate()}
    text = UNEVEN
    if too_large_to_survey:
        monkeypatch.setattr(survey, "MOST_COMBINATIONS", 3)
        text = text.replace("include: [SDXL-C320]", "")
        exact.remove(lookup("SDXL-C320").arch_id)
    space = space_of(text)
    assert space.count_is_exact is not too_large_to_survey
    rng = np.random.default_rng(0)
    draws = 100 * len(exact)
    seen = Counter(space.sample(rng).arch_id for _ in range(draws))
    assert seen.keys() == exact
    # Chi-square over k - 1 degrees of freedom: mean k - 1, standard deviation sqrt(2 (k - 1)).
    chi2 = sum((count - 100) ** 2 / 100 for count in seen.values())
    free_numbers = len(exact) - 1
    assert abs(chi2 - free_numbers) < 4 * (2 * free_numbers) ** 0.5


def test_what_is_smaller_in_one_number_and_larger_in_another_is_a_corner_too() -> None:
    space = space_of("""
        name: s
        family: unet
        parameters:
          channels: {range: [64, 640, 64]}
          channel_mult: {choice: [[1, 3], [2, 1], [2, 3], [1, 1, 1]]}
          transformer_depth: {1: {range: [1, 5]}, 2: 1}
    """)
    corners = {
        largest: [arch.label() for arch in space.corners(largest=largest, most=9)[0]]
        for largest in (False, True)
    }
    assert sorted(corners[False]) == [
        "unet-C64-m1.1.1-TD1.1.0",
        "unet-C64-m1.3-TD1.1",
        "unet-C64-m2.1-TD1.1",
    ]
    assert sorted(corners[True]) == ["unet-C640-m1.1.1-TD5.1.0", "unet-C640-m2.3-TD5.1"]
    assert space.corners(largest=False, most=2)[1] is False


def test_a_space_too_large_to_survey_gives_a_bound_and_still_lists_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = {arch.arch_id for arch in space_of(UNEVEN).enumerate()}
    monkeypatch.setattr(survey, "MOST_COMBINATIONS", 3)
    space = space_of(UNEVEN)
    assert not space.count_is_exact
    assert space.count() == 2 * 2 * 3 * 3 * 2 + 1
    listed = [arch.arch_id for arch in space.enumerate()]
    assert sorted(listed) == sorted(exact)
    assert space.corners(largest=False, most=4)[1] is False


def test_the_id_is_of_the_content() -> None:
    space = space_of(SMALL)
    other_looks = """
# A comment.
family: unet
name: other
parameters:
  channels:
    choice: [64, 96, 128]
  res_blocks: {range: [1, 2, 1]}
  channel_mult: {choice: {sdxl: [1, 2, 4], sd2: [1, 2, 4, 4]}}
  attention_resolutions: {choice: {low: [4], both: [4, 2], deep: [8, 4]}}
  transformer_depth: {8: {choice: [1, 3]}, 4: {range: [2, 10, 4]}, 2: {choice: [0, 2]}}
"""
    assert space_of(other_looks).space_id == space.space_id
    for old, new in (
        ("64, 96", "64, 192"),
        ("deep: [8, 4]", "deep: [8]"),
        ("choice: [1, 3]", "choice: [1, 4]"),
        ("name: small", "include: [SDXL-C320]\nname: small"),
        ("name: small", "limits: {params: {max: 1.0e+12}}\nname: small"),
    ):
        assert space_of(SMALL.replace(old, new)).space_id != space.space_id


def test_a_file_may_be_json(tmp_path: Path) -> None:
    """Where all keys are texts, rates among them."""
    (tmp_path / "space.yaml").write_text(SMALL)
    as_yaml_file = load_space(tmp_path / "space.yaml")
    (tmp_path / "space.json").write_text(json.dumps(as_yaml_file.document.data, indent=1))
    as_json_file = load_space(tmp_path / "space.json")
    assert as_json_file.space_id == as_yaml_file.space_id
    assert as_json_file.parameters == as_yaml_file.parameters


def test_a_million_architectures_are_counted_without_listing_them(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_text("""
        name: big
        family: unet
        parameters:
          channels: {range: [64, 640, 64]}
          channel_mult: {choice: {a: [1, 2, 4], b: [1, 2, 4, 4]}}
          res_blocks: {range: [1, 4]}
          transformer_depth: {1: {range: [0, 9]}, 2: {range: [0, 19]}, 4: {range: [0, 19]},
            8: {range: [0, 4]}}
    """)
    space = load_space(file)
    assert space.count_is_exact
    assert space.count() == 10 * 4 * (10 * 20 * 20) * (1 + 5)
    first = list(itertools.islice(space.enumerate(), 1000))
    assert len({arch.arch_id for arch in first}) == 1000


def test_every_corner_of_a_growing_number_really_grows() -> None:
    """Parameters and GMACs grow with each number alone: what the check of limits relies on."""
    from nas_t2i.arch.profile import profile

    for larger, smaller in growing_pairs():
        more, less = profile(larger, latent_size=8), profile(smaller, latent_size=8)
        assert more.params > less.params, (larger, smaller)
        assert more.gmacs > less.gmacs, (larger, smaller)


def growing_pairs() -> Iterator[tuple[Arch, Arch]]:
    small = {"head_dim": 8, "norm_groups": 4, "text_dim": 32, "res_blocks": 1}
    unet = {"family": "unet", "channels": 8, "channel_mult": [1, 2], **small}
    if_unet = {**unet, "family": "if_unet"}
    pixart = {"family": "pixart", "hidden": 64, "depth": 1, "heads": 4, "text_dim": 32}
    changes: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {**unet, "transformer_depth": [0, 1], "mid_depth": 1},
            [
                {"channels": 16},
                {"channel_mult": [2, 2]},
                {"channel_mult": [1, 3]},
                {"res_blocks": 2},
                {"transformer_depth": [1, 1]},
                {"transformer_depth": [0, 2], "mid_depth": 2},
            ],
        ),
        (
            {**unet, "transformer_depth": [1, 0], "mid_depth": 1},
            [{"mid_depth": 2}, {"transformer_depth": [2, 0]}, {"transformer_depth": [1, 1]}],
        ),
        ({**unet, "transformer_depth": [1, 0], "mid_depth": 0}, [{"mid_depth": 1}]),
        (
            {**if_unet, "transformer_depth": [0, 1], "mid_depth": 0},
            [{"channels": 16}, {"res_blocks": 2}, {"transformer_depth": [1, 1]}, {"mid_depth": 1}],
        ),
        ({**pixart}, [{"hidden": 128}, {"depth": 2}]),
    ]
    for base, larger in changes:
        for change in larger:
            yield arch_from_dict({**base, **change}), arch_from_dict(base)
