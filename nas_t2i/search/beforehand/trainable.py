"""Which architectures of a space a budget can train, as far as it is known without measuring."""

from __future__ import annotations

from collections.abc import Iterator

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.space import Space
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError
from nas_t2i.search.candidates import Maker


def count_trainable(space: Space, factory: Maker) -> int:
    """Count the included architectures and, of the others within limits, one for each proxy."""
    proxies = {factory.trained(arch).arch_id for _, arch in space.included}
    count = len(space.included)
    for arch in space.enumerate():
        try:
            proxy = factory.trained(arch).arch_id
        except ArchError:
            continue
        if proxy not in proxies and space.limits.check(factory.profile(arch)) is None:
            proxies.add(proxy)
            count += 1
    return count


def proposable(space: Space, factory: Maker) -> Iterator[tuple[Arch, str]]:
    """Yield the architectures of a space that may be proposed, with their names.

    Those are within the limits on size, and the budget can train them; several may have one proxy.
    """
    for arch in space.enumerate():
        try:
            factory.trained(arch)
        except ArchError:
            continue
        if space.limits.check(factory.profile(arch)) is None:
            yield arch, name_of(arch)
