"""How a metric or a signal is called where people read it."""

from __future__ import annotations

from nas_t2i import plugins
from nas_t2i.protocol.signals import SIGNALS

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
    **{name: kind.display_name for name, kind in SIGNALS.items()},
}


def display_name(metric: str) -> str:
    """Return what tables and images call a metric or a signal; "score" for "": nothing is scored.

    Those of plug-ins have their own name where they are installed, else that of the record.
    """
    if metric in _NAMES or metric not in plugins.names("metrics"):
        return _NAMES.get(metric, metric) or "score"
    try:
        name: str = plugins.find("metrics", metric).cls.DISPLAY_NAME
    except plugins.PluginError:
        return metric
    return name
