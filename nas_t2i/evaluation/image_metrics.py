"""The metrics of single images, from their settings."""

from __future__ import annotations

from nas_t2i.evaluation.metrics.common.per_image import WEIGHTS, ImageMetric, weights_file
from nas_t2i.protocol.budget import ClipMetric, HpsMetric, ImageMetricSettings


def check_image_metric(settings: ImageMetricSettings) -> None:
    """Check that the file of weights that a metric names is there; nothing is loaded.

    Raises:
        ConfigError: it is not.
    """
    is_tag = isinstance(settings, ClipMetric) and not settings.checkpoint.endswith(WEIGHTS)
    if not is_tag:
        weights_file(settings.checkpoint, f"{settings.metric}.checkpoint")


def make_image_metric(settings: ImageMetricSettings, device: str = "cpu") -> ImageMetric:
    """Load a metric.

    Raises:
        ConfigError: a model that is missing, damaged, or of another kind.
        MissingExtraError: the packages of the metric are not installed.
    """
    # Here, because each needs packages of its own.
    if isinstance(settings, ClipMetric):
        from nas_t2i.evaluation.metrics.common.clip_score import make_clip_score

        return make_clip_score(
            settings.model,
            settings.checkpoint,
            prefix=settings.prefix,
            scale=settings.scale,
            clamp=settings.clamp,
            device=device,
        )
    if isinstance(settings, HpsMetric):
        from nas_t2i.evaluation.metrics.common.hps import make_hps

        return make_hps(settings.checkpoint, settings.version, model=settings.model, device=device)
    from nas_t2i.evaluation.metrics.common.image_reward import make_image_reward

    return make_image_reward(settings.checkpoint, tokenizer=settings.tokenizer, device=device)
