"""What a candidate is worth: any metric, signal and cost, in the order that they are sought in."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_t2i.arch.catalog import lookup
from nas_t2i.arch.profile import profile
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.records import Signal
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.objectives.values import values_of
from tests.results.record_factory import point, score

SHIPPED = Path(__file__).parents[3] / "budgets/embedded.yaml"
CLIP = "  metrics: [{metric: clip, model: ViT-B-32, checkpoint: laion2b_s34b_b79k}]\n"


def budget(tmp_path: Path, objectives: str) -> Budget:
    head, _, rest = SHIPPED.read_text().partition("  early_stopping:\n")
    text = f"{head}  early_stopping: null\n{rest[rest.index('  stall_minutes') :]}"
    text = text.replace("evaluation:\n", f"evaluation:\n{CLIP}")
    text = text.replace("  sampler: tpe\n", f"  sampler: tpe\n  objectives: {objectives}\n")
    (tmp_path / "b.yaml").write_text(text)
    return load_budget(tmp_path / "b.yaml")


def test_every_metric_signal_and_cost_has_its_value(tmp_path: Path) -> None:
    sought = budget(tmp_path, "[clip, -heldout_loss, -params, tifa, -gmacs]")
    arch, last = lookup("SD2-C320"), sought.rungs[-1]
    size = profile(arch)
    candidate = Candidate("a", arch, arch, size, size, (0, 1))
    assert values_of(sought, candidate) is None
    for seed, (tifa, clip, loss) in enumerate(((0.4, 0.2, 0.5), (0.6, 0.3, 0.7))):
        made = point(last, [tifa, tifa])
        beside = score([clip, clip], metric="clip_score", chance=None)
        signal = Signal(name="heldout_loss", value=loss, stderr=0.0, n=2, signature="s")
        candidate.points.setdefault(last, {})[seed] = made.model_copy(
            update={
                "scores": made.scores | {"clip_score": beside},
                "signals": {"heldout_loss": signal},
            }
        )
    values = values_of(sought, candidate)
    assert values == pytest.approx((0.25, 0.6, size.params, 0.5, size.gmacs))
    # A metric that nobody measured is no value.
    candidate.points[last] = {0: point(last, [0.4, 0.4])}
    assert values_of(sought, candidate) is None
