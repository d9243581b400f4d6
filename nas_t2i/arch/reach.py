"""How large the architectures of a space are, and whether any of them meets its limits."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nas_t2i.arch.limits import show
from nas_t2i.arch.space import Space
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ConfigError
from nas_t2i.records import Profile

ProfileFn = Callable[[Arch], Profile]
_MOST_PROFILES = 48  # about 0.3 s each; only a space that meets its limits nowhere needs them all


@dataclass(frozen=True)
class Sizes:
    """The architectures of a space with the fewest and the most parameters and GMACs."""

    fewest_params: Profile
    most_params: Profile
    fewest_gmacs: Profile
    most_gmacs: Profile
    profiled: int
    exact: bool  # else the extremes of the `profiled` architectures


def sizes(space: Space, profile: ProfileFn) -> Sizes:
    """Find the extremes of parameters and GMACs in a space.

    Both grow with every width, depth and number of blocks, so profiling the corners of the space
    (architectures that no other one is below, or above, in every number) is enough.
    """
    small, small_exact = space.corners(largest=False, most=_MOST_PROFILES // 2)
    large, large_exact = space.corners(largest=True, most=_MOST_PROFILES // 2)
    least, greatest = [profile(arch) for arch in small], [profile(arch) for arch in large]
    return Sizes(
        fewest_params=min(least, key=lambda p: p.params),
        most_params=max(greatest, key=lambda p: p.params),
        fewest_gmacs=min(least, key=lambda p: p.gmacs),
        most_gmacs=max(greatest, key=lambda p: p.gmacs),
        profiled=len(least) + len(greatest),
        exact=small_exact and large_exact,
    )


def check_reachable(space: Space, profile: ProfileFn) -> str:
    """Check, before anything is built, that the space has architectures within its limits.

    Returns:
        "" when one was found; otherwise a warning that none of so many sampled ones is inside.

    Raises:
        ConfigError: an included architecture breaks a limit; or certainly no architecture meets
            one (the message has the nearest value and who has it).
    """
    if not list(space.limits.items()):
        return ""
    profile = _remembering(profile)
    _check_included(space, profile)
    if not space.axes:
        return ""  # nothing but what was just checked
    _check_extremes(space, profile)
    few = space.count() <= _MOST_PROFILES and space.count_is_exact
    tried = 0
    nearest = ""
    for arch in space.enumerate() if few else _corners_and_samples(space):
        reason = space.limits.check(profile(arch))
        if reason is None:
            return ""
        tried += 1
        nearest = nearest or f"{arch.label()}: {reason}"
    if few:
        space.document.fail(
            ("limits",), f"none of all {tried} architectures is inside them", hint=f"e.g. {nearest}"
        )
    return f"none of {tried} sampled architectures is inside the limits (e.g. {nearest})"


def _remembering(profile: ProfileFn) -> ProfileFn:
    known: dict[str, Profile] = {}

    def remembered(arch: Arch) -> Profile:
        if arch.arch_id not in known:
            known[arch.arch_id] = profile(arch)
        return known[arch.arch_id]

    return remembered


def _check_included(space: Space, profile: ProfileFn) -> None:
    for i, (name, arch) in enumerate(space.included):
        reason = space.limits.check(profile(arch))
        if reason is not None:
            space.document.fail(
                ("include", i), f"{name}: {reason}", expected="included entries within the limits"
            )


def _check_extremes(space: Space, profile: ProfileFn) -> None:
    """Raise if the smallest architecture is too large, or the largest too small."""
    if space.limits.params is None and space.limits.gmacs is None:
        return
    found = sizes(space, profile)
    if not found.exact:
        return
    for name, bound in space.limits.items():
        if name not in ("params", "gmacs"):
            continue
        least = found.fewest_params if name == "params" else found.fewest_gmacs
        greatest = found.most_params if name == "params" else found.most_gmacs
        if bound.max is not None and getattr(least, name) > bound.max:
            raise _unreachable(space, name, "max", bound.max, "smallest", least)
        if bound.min is not None and getattr(greatest, name) < bound.min:
            raise _unreachable(space, name, "min", bound.min, "largest", greatest)


def _unreachable(
    space: Space, name: str, side: str, limit: float, extreme: str, profile: Profile
) -> ConfigError:
    value = getattr(profile, name)
    relation = "at most" if side == "max" else "at least"
    return ConfigError(
        space.document.where(("limits", name, side)),
        f"no architecture has {relation} {show(name, limit)}",
        expected=f"{'at least' if side == 'max' else 'at most'} {show(name, value)}, the {extreme} "
        f"in the space ({profile.name})",
    )


def _corners_and_samples(space: Space) -> Iterator[Arch]:
    """Yield the corners, then samples (always the same ones), at most `_MOST_PROFILES` in all."""
    rng = random.Random(0)  # noqa: S311  (not for secrets)
    half = _MOST_PROFILES // 4
    corners = space.corners(largest=False, most=half)[0] + space.corners(largest=True, most=half)[0]
    samples = (space.sample(rng) for _ in itertools.count())
    yield from itertools.islice(itertools.chain(corners, samples), _MOST_PROFILES)
