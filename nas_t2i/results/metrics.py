"""How a metric is called where people read it."""

from __future__ import annotations

_NAMES = {
    "tifa": "TIFA",
    "heldout_r2": "held-out R²",
    "clip": "CLIP score",
    "clip_score": "CLIP score",
    "fid": "FID",
    "hps": "HPSv2",
    "hps_v2.0": "HPSv2 (v2.0)",
    "hps_v2.1": "HPSv2 (v2.1)",
    "image_reward": "ImageReward",
}


def display_name(metric: str) -> str:
    """Return what tables and images call a metric; "score" for "" (nothing is scored yet)."""
    return _NAMES.get(metric, metric) or "score"
