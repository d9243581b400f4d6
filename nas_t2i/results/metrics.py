"""How a metric or a signal is called where people read it."""

from __future__ import annotations

from nas_t2i import plugins
from nas_t2i.protocol.signals import SIGNALS

# Of those whose module imports PyTorch, which takes a listing more time than all its own work.
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

    A metric that is not in the table above tells its name itself, where it is installed.
    """
    if not metric or metric in _NAMES:
        return _NAMES.get(metric, "score")
    for name in plugins.names("metrics"):
        if name in _NAMES or not metric.startswith(name):
            continue
        try:
            known = plugins.find("metrics", name).cls
        except plugins.PluginError:
            continue
        if metric in (name, *known.SCORES):
            return str(known.SCORES.get(metric, known.DISPLAY_NAME))
    return metric
