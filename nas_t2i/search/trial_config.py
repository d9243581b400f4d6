"""The frozen configuration of one trial: all that its process is given, written once as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas_t2i.files import read_record
from nas_t2i.plugins import Origin
from nas_t2i.records import Latency, Profile, TrialRecord, TrialState

Control = Literal["", "no-cross-attention", "shuffled-captions"]


class TrialConfig(BaseModel):
    """One trial. Its key is (arch_id of `arch`, budget_id of `budget`, seed, control)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    study: str
    number: int = Field(description="order of start within the study")
    optuna_number: int | None = Field(description="the Optuna trial it belongs to, if any")
    name: str
    arch: dict[str, Any] = Field(description="canonical form of the full architecture")
    trained_arch: dict[str, Any] = Field(description="canonical form of what is trained")
    profile: Profile
    trained_profile: Profile
    budget: dict[str, Any] = Field(description="the whole budget")
    budget_id: str
    seed: int
    control: Control = ""
    plugins: list[Origin] = Field(default_factory=list, description="code from outside nas-t2i")
    latency: Latency | None = Field(
        default=None, exclude_if=lambda one: one is None, description="of the full architecture"
    )

    @property
    def key(self) -> str:
        """Name of the trial's folder: no two trials of a study share it."""
        return trial_key(self.profile.arch_id, self.seed, self.control)

    def new_record(self) -> TrialRecord:
        """Return the record of this trial as it starts."""
        return TrialRecord(
            study=self.study,
            number=self.number,
            name=self.name,
            arch=self.arch,
            arch_id=self.profile.arch_id,
            family=self.profile.family,
            trained_arch=self.trained_arch,
            profile=self.profile,
            trained_profile=self.trained_profile,
            budget_id=self.budget_id,
            seed=self.seed,
            control=self.control,
            plugins=self.plugins,
            latency=self.latency,
            state=TrialState.RUNNING,
        )


def trial_key(arch_id: str, seed: int, control: str) -> str:
    """Return the name of a trial's folder."""
    return f"{arch_id}-s{seed}" + (f"-{control}" if control else "")


def load_trial_config(path: Path) -> TrialConfig:
    """Read a trial's config. Raises RecordError when it is missing or not one."""
    return read_record(path, TrialConfig)
