"""Candidates of a table: their sizes and what was trained of them are looked up."""

from __future__ import annotations

from functools import cached_property

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.spec import Arch
from nas_t2i.benchmark.table import Table
from nas_t2i.errors import ArchError, RecordError
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Profile
from nas_t2i.search.beforehand.factory import CandidateFactory
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.session import make_factory
from nas_t2i.search.trial_config import Control


class Recorded:
    """The architectures of a table as a search meets them; shared by all replays."""

    def __init__(self, table: Table, budget: Budget) -> None:
        self._table, self._budget = table, budget
        entries = table.manifest.architectures
        self._trained = {entry.arch_id: arch_from_dict(entry.trained_arch) for entry in entries}
        self._names = {
            arch.arch_id: entry.name
            for arch, entry in zip(self._trained.values(), entries, strict=True)
        }
        manifest = table.manifest
        self._outside = {entry.arch_id: "left out of the table" for entry in manifest.left_out}
        self._outside |= {entry.arch_id: entry.why for entry in manifest.outside}
        self._unknown: dict[str, Arch | ArchError] = {}

    @cached_property
    def _factory(self) -> CandidateFactory:
        return make_factory(self._budget, ())

    def trained(self, arch: Arch) -> Arch:
        """Return what was trained of an architecture.

        Raises:
            ArchError: the table says why it has no curves of it, or what would be trained of it is
                in the table under another name; the sampler is to propose another one.
        """
        known = self._trained.get(arch.arch_id)
        if known is not None:
            return known
        if arch.arch_id not in self._unknown:
            self._unknown[arch.arch_id] = self._find(arch)
        found = self._unknown[arch.arch_id]
        if isinstance(found, ArchError):
            raise found
        return found

    def profile(self, arch: Arch) -> Profile:
        """Return the recorded profile; one that is not on record is counted."""
        if arch.arch_id in self._trained:
            return self._table.architecture(arch.arch_id).profile
        return self._factory.profile(arch)

    def make(self, arch: Arch, seeds: tuple[int, ...], name: str) -> Candidate:
        """Return a candidate with these seeds. Raises RecordError where the table lacks it."""
        if arch.arch_id not in self._trained:
            raise RecordError(
                f"table {self._table.name}: the search proposes {name_of(arch)} ({arch.arch_id}), "
                "which the table lacks; expected every architecture of its space within the limits"
            )
        entry = self._table.architecture(arch.arch_id)
        return Candidate(
            name=name or entry.name,
            arch=arch,
            trained=self._trained[arch.arch_id],
            profile=entry.profile,
            trained_profile=entry.trained_profile,
            seeds=seeds,
        )

    def _find(self, arch: Arch) -> Arch | ArchError:
        if arch.arch_id in self._outside:
            return ArchError(f"{name_of(arch)}: {self._outside[arch.arch_id]}")
        try:
            trained = self._factory.trained(arch)
        except ArchError as error:
            return error
        if trained.arch_id in self._names:
            # One proxy is one curve, and one candidate: the name that it was trained under.
            return ArchError(
                f"{name_of(arch)}: the table has its proxy as {self._names[trained.arch_id]}"
            )
        return trained


class TableMaker:
    """Makes the candidates of one replay."""

    def __init__(self, recorded: Recorded, seeds: tuple[int, ...]) -> None:
        self._recorded, self._seeds = recorded, seeds

    def trained(self, arch: Arch) -> Arch:
        """Return what was trained of an architecture. Raises ArchError."""
        return self._recorded.trained(arch)

    def profile(self, arch: Arch, /) -> Profile:
        """Return the size and compute of the full architecture."""
        return self._recorded.profile(arch)

    def is_timed(self, arch: Arch, /) -> bool:  # noqa: ARG002
        """Return True: nothing is measured."""
        return True

    def latency(self, arch: Arch, /) -> None:
        """Return None: a table has no latencies, and none is asked for."""

    def make(self, arch: Arch, *, name: str = "", control: Control = "") -> Candidate:
        """Return a candidate. Raises RecordError where the table lacks it."""
        assert not control, "a table has no controls"
        return self._recorded.make(arch, self._seeds, name)
