"""From an architecture to a candidate: what is trained of it, its size, compute and latency."""

from __future__ import annotations

from functools import cache

from nas_t2i.arch.catalog import name_of
from nas_t2i.arch.profile import profile
from nas_t2i.arch.spec import Arch
from nas_t2i.errors import ArchError
from nas_t2i.protocol.budget import Budget
from nas_t2i.search.beforehand.latencies import Latencies
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.trial_config import Control
from nas_t2i.training.feeds.inputs import Geometry


class CandidateFactory:
    """Turns architectures into candidates under one budget; profiles each only once."""

    def __init__(self, budget: Budget, geometry: Geometry, seeds: tuple[int, ...]) -> None:
        self._budget, self._geometry, self._seeds = budget, geometry, seeds
        self.profile = cache(profile)
        self.latencies: Latencies | None = None  # where they are measured

    def trained(self, arch: Arch) -> Arch:
        """Return what the budget trains for `arch`.

        Raises:
            ArchError: the proxy's rule gives nothing, or without one the architecture is not made
                for the budget's latents and text.
        """
        rule, geometry = self._budget.proxy, self._geometry
        if rule is not None:
            return arch.proxy(rule, latent_channels=geometry.channels, text_dim=geometry.text_width)
        plain = arch.canonical()
        made_for = (plain["latent_channels"], plain.get("text_dim", geometry.text_width))
        if made_for != (geometry.channels, geometry.text_width):
            raise ArchError(
                f"{name_of(arch)}: made for {made_for[0]} latent channels and text of width "
                f"{made_for[1]}; budget {self._budget.name} has {geometry.channels} and "
                f"{geometry.text_width}"
            )
        return arch

    def is_timed(self, arch: Arch) -> bool:
        """Whether `latency` answers without measuring."""
        return self.latencies is None or self.latencies.knows(arch)

    def latency(self, arch: Arch) -> float | None:
        """Return the seconds of a pass of it, measured now if need be; None: nobody asks for it.

        Raises:
            UserError: it can't be measured.
        """
        return self.latencies.of(arch, name_of(arch)).median_s if self.latencies else None

    def make(self, arch: Arch, *, name: str = "", control: Control = "") -> Candidate:
        """Return the candidate of an architecture, with its latency unless it is a control.

        Raises:
            UserError: its latency can't be measured.
        """
        trained, timed = self.trained(arch), self.latencies if not control else None
        return Candidate(
            name=name or name_of(arch),
            arch=arch,
            trained=trained,
            profile=self.profile(arch).model_copy(update={"levels": []}),
            trained_profile=profile(
                trained, latent_size=self._geometry.size, text_tokens=self._geometry.tokens
            ).model_copy(update={"levels": []}),
            seeds=self._seeds,
            control=control,
            latency=timed.of(arch, name or name_of(arch)) if timed else None,
        )
