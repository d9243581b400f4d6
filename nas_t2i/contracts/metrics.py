"""What a metric of images keeps to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from nas_t2i.contracts import Check
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.inputs.provenance import Drawn
from nas_t2i.evaluation.metric import Metric, RankedBy, Resources

_COUNT, _SIDE = 6, 64
_DRAWN = Drawn("ddim1", 1.0, 0)


def checks(metric: Metric) -> Iterator[Check]:
    """Check a metric by its settings; its models are loaded, and score six images."""
    named = isinstance(metric.DISPLAY_NAME, str) and metric.DISPLAY_NAME
    yield Check("DISPLAY_NAME is a name", "" if named else f"got {metric.DISPLAY_NAME!r}")
    better = metric.BETTER in ("larger", "smaller")
    yield Check("BETTER is larger or smaller", "" if better else f"got {metric.BETTER!r}")
    again = type(metric).model_validate(metric.model_dump(mode="json"))
    yield Check("its settings read back", "" if again == metric else "they differ")
    ranked = metric.RANKED
    alike = ranked is None or (issubclass(ranked, RankedBy) and ranked.BETTER == metric.BETTER)
    yield Check("ranked by, it has the same direction", "" if alike else f"got {ranked}")
    if not metric.BESIDE:  # it is measured on a denoiser, and there are no images to score
        yield Check("it can be ranked by", "" if ranked is not None else "RANKED is None")
        return
    metric.check()
    scorer, resources = metric.load(), Resources()
    scorer.prepare(resources)
    pixels = np.random.default_rng(0).integers(0, 256, (_COUNT, _SIDE, _SIDE, 3), dtype=np.uint8)
    prompts = metric.own_prompts() or [Prompt(str(i), f"prompt {i}") for i in range(_COUNT)]
    prompts = prompts[:_COUNT]
    ids, pixels = [prompt.id for prompt in prompts], pixels[: len(prompts)]
    found = scorer.score(ImageSet.at_rung(ids, pixels, _DRAWN), prompts, resources)
    score = found.score
    yield Check("it has a score", "" if score is not None else f"missing: {found.missing}")
    if score is None:
        return
    finite = math.isfinite(score.value) and all(map(math.isfinite, score.per_prompt))
    yield Check("scores are finite", "" if finite else f"got {score.value}")
    counted = len(score.per_prompt) in (0, len(found.prompts)) and score.n == len(found.prompts)
    yield Check("there is a score a prompt, or none", "" if counted else f"{score.n} of them")
    line = score.signature
    signed = line.startswith(f"{score.metric}|") and "\n" not in line
    yield Check("the signature is a line that begins with the metric", "" if signed else line[:80])
    rerun = metric.load()
    rerun.prepare(resources)
    turned = ImageSet.at_rung(ids[::-1], pixels[::-1], _DRAWN)
    other = rerun.score(turned, prompts, Resources()).score
    same = other is not None and np.allclose(other.per_prompt, score.per_prompt, atol=1e-4)
    close = other is not None and math.isclose(other.value, score.value, rel_tol=1e-4, abs_tol=1e-6)
    yield Check("scores belong to the images, whatever their order", "" if same and close else "no")
    elsewhere = ImageSet.from_arrays(ids, pixels, blank_counts=True)
    outside = metric.load()
    outside.prepare(resources)
    standalone = outside.score(elsewhere, prompts, Resources()).score
    equal = standalone is not None and standalone.per_prompt == score.per_prompt
    equal = equal and standalone is not None and standalone.value == score.value
    yield Check("a rung and evaluate score alike, bit for bit", "" if equal else "they differ")
