"""Limits: what is inside, and whether a space can be inside at all."""

from collections.abc import Callable
from typing import Any

import pytest

from nas_t2i.arch import reach as reach_module
from nas_t2i.arch import survey
from nas_t2i.arch.limits import Limits, show
from nas_t2i.arch.profile import profile
from nas_t2i.arch.reach import check_reachable, sizes
from nas_t2i.arch.space import Space, space_from_document
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ConfigError
from nas_t2i.records import Profile
from nas_t2i.yaml_files import parse_document

SPACE = """
name: s
family: unet
parameters:
  channels: {range: [64, 640, 64]}
  channel_mult: [1, 2, 4]
  transformer_depth: {2: {range: [0, 9]}, 4: {range: [1, 12]}}
"""
TWO = SPACE.replace("range: [64, 640, 64]", "choice: [64, 128]").replace(
    "{2: {range: [0, 9]}, 4: {range: [1, 12]}}", "[0, 1, 1]"
)


def space_of(text: str) -> Space:
    return space_from_document(parse_document(text, "space.yaml"))


def made_up(arch: Arch, *, params: int, gmacs: float, share: float) -> Profile:
    return Profile(
        name=arch.label(),
        arch_id=arch.arch_id,
        family=arch.FAMILY,
        params=params,
        gmacs=gmacs,
        gmacs_paper=gmacs,
        attention_gmacs=gmacs * share,
        attention_gmacs_paper=gmacs * share,
        attention_gmacs_paper_no_mid=gmacs * share,
        attention_share=share,
        uncounted_ops={},
        latent_size=32,
        text_tokens=77,
    )


class MadeUp:
    """A cheap profile that grows as a real one does; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, arch: Arch) -> Profile:
        self.asked.append(arch.arch_id)
        data: dict[str, Any] = arch.model_dump()
        depth = sum(data["transformer_depth"])
        params = data["channels"] * 1000 * (10 + depth)
        return made_up(arch, params=params, gmacs=params / 1e4, share=depth / (10 + depth))


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({}, None),
        ({"params": {"max": 2e9, "min": 2e9}}, None),
        ({"params": {"max": 1.9e9}}, "params 2,000,000,000 is above the limit 1,900,000,000"),
        ({"params": {"min": 3e9}}, "params 2,000,000,000 is below the limit 3,000,000,000"),
        ({"params": {"max": 3e9}, "gmacs": {"max": 99}}, "gmacs 100 is above the limit 99"),
        ({"attention_share": {"min": 0.61}}, "attention_share 0.6 is below the limit 0.61"),
    ],
)
def test_a_profile_is_inside_or_told_why_not(bounds: dict[str, Any], reason: str | None) -> None:
    arch = next(space_of(SPACE).enumerate())
    inside = made_up(arch, params=2_000_000_000, gmacs=100, share=0.6)
    assert Limits.model_validate(bounds).check(inside) == reason


def test_numbers_are_shown_as_people_write_them() -> None:
    assert show("params", 2_391_626_884) == "2,391,626,884"
    assert show("params", 2e9) == "2,000,000,000"
    assert show("gmacs", 198.2346) == "198.235"
    assert show("gmacs", 250) == "250"
    assert show("attention_share", 0.64) == "0.64"


def test_extremes_are_exact_and_take_few_profiles() -> None:
    space, profile_fn = space_of(SPACE), MadeUp()
    found = sizes(space, profile_fn)
    everyone = [MadeUp()(arch) for arch in space.enumerate()]
    assert len(everyone) == 1200
    assert found.exact
    assert found.profiled == len(profile_fn.asked) == 2
    assert found.fewest_params.params == min(p.params for p in everyone)
    assert found.most_params.params == max(p.params for p in everyone)
    assert found.fewest_gmacs.gmacs == min(p.gmacs for p in everyone)
    assert found.most_gmacs.gmacs == max(p.gmacs for p in everyone)


def test_extremes_of_real_profiles_are_exact() -> None:
    """The claim behind it, on real counts: nothing inside the space is beyond its corners."""
    space = space_of("""
        name: s
        family: unet
        parameters:
          channels: 8
          channel_mult: {choice: [[1, 2], [2, 1], [1, 1, 1]]}
          res_blocks: {choice: [1, 2]}
          transformer_depth: {1: {choice: [0, 1]}, 2: {choice: [0, 2]}, 4: {choice: [0, 1]}}
          head_dim: 8
          norm_groups: 4
          text_dim: 32
    """)
    everyone = [small_profile(arch) for arch in space.enumerate()]
    found = sizes(space, small_profile)
    assert len(everyone) == space.count() > 30
    assert found.profiled < len(everyone) / 2
    assert found.fewest_params.params == min(p.params for p in everyone)
    assert found.most_params.params == max(p.params for p in everyone)
    assert found.fewest_gmacs.gmacs == min(p.gmacs for p in everyone)
    assert found.most_gmacs.gmacs == max(p.gmacs for p in everyone)


def small_profile(arch: Arch) -> Profile:
    return profile(arch, latent_size=8, text_tokens=4)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            "params: {max: 7.0e+5}",
            "space.yaml:8:19: limits.params.max: no architecture has at most 700,000; expected at "
            "least 704,000, the smallest in the space (unet-C64-m1.2.4-TD0.0.1)",
        ),
        (
            "gmacs: {min: 2000}",
            "space.yaml:8:18: limits.gmacs.min: no architecture has at least 2000; expected at "
            "most 1984, the largest in the space (unet-C640-m1.2.4-TD0.9.12)",
        ),
    ],
)
def test_a_limit_nobody_meets_is_told_with_the_nearest_value(limits: str, message: str) -> None:
    profile_fn = MadeUp()
    with pytest.raises(ConfigError) as caught:
        check_reachable(space_of(f"{SPACE}limits: {{{limits}}}\n"), profile_fn)
    assert str(caught.value) == message
    assert len(set(profile_fn.asked)) == len(profile_fn.asked) == 2


def test_limits_somebody_meets_pass() -> None:
    limits = "limits: {params: {min: 2.0e+6, max: 9.0e+6}, attention_share: {min: .2, max: .5}}\n"
    assert check_reachable(space_of(SPACE + limits), MadeUp()) == ""


def test_without_limits_nothing_is_profiled() -> None:
    profile_fn = MadeUp()
    assert check_reachable(space_of(SPACE), profile_fn) == ""
    assert profile_fn.asked == []


def test_limits_that_exclude_each_other_are_an_error_where_all_were_tried() -> None:
    space = space_of(f"{TWO}limits: {{params: {{max: 1.0e+6}}, attention_share: {{min: 0.5}}}}\n")
    with pytest.raises(ConfigError) as caught:
        check_reachable(space, MadeUp())
    assert str(caught.value) == (
        "space.yaml:8:1: limits: none of all 2 architectures is inside them; e.g. "
        "unet-C64-m1.2.4-TD0.1.1: attention_share 0.166667 is below the limit 0.5"
    )


def sampled_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_COMBINATIONS", 0)


def as_it_is(_monkeypatch: pytest.MonkeyPatch) -> None:
    pass


@pytest.mark.parametrize("prepare", [as_it_is, sampled_only])
def test_where_not_all_were_tried_the_message_says_of_how_many_it_speaks(
    prepare: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch)
    profile_fn = MadeUp()
    warning = check_reachable(
        space_of(f"{SPACE}limits: {{attention_share: {{min: 0.9}}}}\n"), profile_fn
    )
    tried = reach_module._MOST_PROFILES
    assert warning.startswith(f"none of {tried} sampled architectures is inside the limits (e.g. ")
    assert len(set(profile_fn.asked)) == len(profile_fn.asked) <= tried


def test_a_space_without_a_survey_claims_no_exact_extreme(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled_only(monkeypatch)
    space = space_of(f"{SPACE}limits: {{params: {{max: 1}}}}\n")
    found = sizes(space, MadeUp())
    assert not found.exact
    assert "sampled" in check_reachable(space, MadeUp())


def test_an_included_architecture_outside_the_limits_is_an_error() -> None:
    inside = "{family: unet, channels: 64, channel_mult: [1], transformer_depth: [1]}"
    outside = "{name: big, family: unet, channels: 128, channel_mult: [1], transformer_depth: [1]}"
    text = f"name: s\ninclude:\n  - {inside}\n  - {outside}\nlimits: {{params: {{max: 1.0e+6}}}}\n"
    with pytest.raises(ConfigError) as caught:
        check_reachable(space_of(text), MadeUp())
    assert str(caught.value) == (
        "space.yaml:4:5: include[1]: big: params 1,408,000 is above the limit 1,000,000; expected "
        "included entries within the limits"
    )
    assert check_reachable(space_of(text.replace("1.0e+6", "2.0e+6")), MadeUp()) == ""


def test_a_soft_limit_keeps_nobody_out_and_says_by_how_much_it_is_exceeded() -> None:
    text = SPACE + "limits: {gmacs: {min: 10, max: 100, soft: true}, params: {max: 2.0e9}}\n"
    space = space_of(text)
    arch = next(iter(space.enumerate()))
    for gmacs, excess in ((150.0, 0.5), (100.0, 0.0), (5.0, 0.5), (55.0, -0.45)):
        size = made_up(arch, params=1, gmacs=gmacs, share=0.5)
        assert space.limits.check(size) is None
        assert space.limits.excess(size) == pytest.approx({"gmacs": excess})
    assert [name for name, _ in space.limits.items()] == ["params"]
    big = made_up(arch, params=3_000_000_000, gmacs=50.0, share=0.5)
    assert "params 3,000,000,000 is above" in str(space.limits.check(big))
    hard = space_of(text.replace(", soft: true", ""))
    assert hard.space_id != space.space_id
    assert hard.space_id == space_of(text.replace("soft: true", "soft: false")).space_id
    assert hard.limits.excess(big) == {}
    timed = space_of(SPACE + "limits: {latency: {max: 0.05}}\n").limits
    assert timed.check(big) is None  # not measured
    assert timed.check(big, latency=0.05) is None
    assert timed.check(big, latency=0.06) == "latency 60 ms is above the limit 50 ms"
    soft = space_of(SPACE + "limits: {latency: {max: 0.05, soft: true}}\n").limits
    assert soft.excess(big, latency=0.06) == pytest.approx({"latency": 0.2})
    assert soft.excess(big) == {} and soft.check(big, latency=9.0) is None
    beyond_all = space_of(SPACE + "limits: {gmacs: {max: 0.001, soft: true}}\n")
    assert check_reachable(beyond_all, lambda one: made_up(one, params=1, gmacs=9.0, share=0)) == ""
