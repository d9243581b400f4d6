"""Which architectures of its space a table has no curves of, and why none are needed.

Counted once, when a table is built: a replay that had to count parameters and GMACs of whatever a
sampler proposes would take longer for it than for all the rest.
"""

from __future__ import annotations

from pathlib import Path

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.space import space_from_document
from nas_t2i.arch.spec import Arch
from nas_t2i.benchmark.form import Manifest, Outside
from nas_t2i.errors import ArchError
from nas_t2i.protocol.budget import Budget, recorded_budget
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.session import make_factory
from nas_t2i.yaml_files import Document

_MOST = 20_000  # architectures that are listed; of a larger space nothing is said


def with_coverage(manifest: Manifest) -> tuple[Manifest, list[str]]:
    """Add to a manifest who is outside of it; return it, and the names of those that it lacks.

    Outside is who breaks a limit of the space, or is trained as a proxy that is in the table under
    another name. Whoever is neither in the table nor outside nor left out is lacking: a replay that
    proposes it ends with an error.
    """
    where = f"table {manifest.name}"
    space = space_from_document(Document(f"{where}: space", manifest.space.data, {}))
    if space.count() > _MOST:
        return manifest, []
    budget = recorded_budget(manifest.budget.data, Path(where))
    factory = make_factory(budget, ())
    known = {entry.arch_id for entry in manifest.architectures}
    known |= {entry.arch_id for entry in manifest.left_out}
    proxies = _proxies(manifest, budget)
    outside, lacking = [], []
    for arch in space.enumerate():
        if arch.arch_id in known:
            continue
        why = _why(arch, factory, proxies) or space.limits.check(factory.profile(arch))
        if why:
            outside.append(Outside(arch_id=arch.arch_id, why=why))
        else:
            lacking.append(name_of(arch))
    return manifest.model_copy(update={"outside": outside}), lacking


def _proxies(manifest: Manifest, budget: Budget) -> dict[str, str]:
    """Return whose proxy each one is; without proxies nothing is shared."""
    if budget.proxy is None:
        return {}
    return {
        arch_from_dict(entry.trained_arch).arch_id: entry.name for entry in manifest.architectures
    }


def _why(arch: Arch, factory: CandidateFactory, proxies: dict[str, str]) -> str:
    try:
        name = proxies.get(factory.trained(arch).arch_id)
    except ArchError as error:
        return str(error)
    return f"the table has its proxy as {name}" if name else ""
