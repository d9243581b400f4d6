"""The embedded benchmark's learned reader, taught with scenes of three objects as well."""

from __future__ import annotations

from nas_t2i.environment import cache_dir
from nas_t2i.evaluation.embedded.learned_model import LearnedSettings
from nas_t2i.evaluation.vqa.common.base import Options
from nas_t2i.evaluation.vqa.learned import LearnedReader, LearnedVqa, make_learned


class Learned3Vqa(LearnedVqa):
    """`learned` in all but its lessons and so its weights."""

    def load(self, options: Options) -> LearnedReader:  # noqa: ARG002  it has no options
        """Load the shipped network; see `Vqa.load`."""
        return make_learned(cache_dir(), LearnedSettings(groups=3))
