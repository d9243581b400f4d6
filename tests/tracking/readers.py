"""What trackers hold, read back by their own readers, in one form."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Held:
    """One run."""

    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    images: dict[str, list[int]] = field(default_factory=dict)
    state: str = ""


def tensorboard(where: str) -> dict[str, Held]:
    """Read event files as TensorBoard does; runs by folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    found = {}
    for folder in sorted({file.parent for file in Path(where).rglob("events.out.tfevents.*")}):
        assert len(list(folder.iterdir())) == 1
        read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
        held = found[folder.name.rpartition("-")[0]] = Held()
        for tag in read.Tags()["scalars"]:
            held.values[tag] = [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["images"]:
            held.images[tag] = [event.step for event in read.Images(tag)]
        told = read.summary_metadata
        start = told[metadata.SESSION_START_INFO_TAG].plugin_data.content
        for name, value in metadata.parse_session_start_info_plugin_data(start).hparams.items():
            held.params[name] = getattr(value, value.WhichOneof("kind"))
        if "end/text_summary" in read.Tags()["tensors"]:
            assert metadata.SESSION_END_INFO_TAG in told
            (event,) = read.Tensors("end/text_summary")
            held.state = event.tensor_proto.string_val[0].decode()
    return found


def mlflow(where: str) -> dict[str, Held]:
    """Ask MLflow's client for the runs of the study "demo", by name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=where)
    found = {}
    for run in client.search_runs([client.get_experiment_by_name("demo").experiment_id]):
        run_id, tags = run.info.run_id, run.data.tags
        assert tags["mlflow.runName"] not in found
        assert (run.info.status == "RUNNING") == ("state" not in tags)
        held = found[tags["mlflow.runName"]] = Held(dict(run.data.params))
        held.state = ": ".join(t for t in (tags.get("state", ""), tags.get("reason", "")) if t)
        for name in run.data.metrics:
            history = client.get_metric_history(run_id, name)
            held.values[name] = sorted((metric.step, metric.value) for metric in history)
        held.values.pop("step", None)
        for folder in client.list_artifacts(run_id):
            files = client.list_artifacts(run_id, folder.path)
            held.images[folder.path] = [int(Path(file.path).stem) for file in files]
    return found


def wandb(where: str) -> dict[str, Held]:
    """Read the files that ``wandb sync`` uploads; runs by name."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = {}
    for file in sorted(Path(where).glob("wandb/offline-run-*/run-*.wandb")):
        held = Held()
        name = ""
        for data in _log_records(file.read_bytes()):
            record = Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.display_name
                update = record.run.config.update
                held.params |= {i.key: json.loads(i.value_json) for i in update}
                held.params.pop("_wandb", None)
            elif kind == "history":
                items = {".".join(i.nested_key): i.value_json for i in record.history.item}
                step = json.loads(items["_step"])
                for key, text in items.items():
                    if key.endswith("._type"):  # of an image, which has more such parts
                        held.images.setdefault(key.removesuffix("._type"), []).append(step)
                    elif "." not in key and not key.startswith("_"):
                        held.values.setdefault(key, []).append((step, float(json.loads(text))))
            elif kind == "summary":
                told = {i.key: json.loads(i.value_json) for i in record.summary.update}
                if "state" in told:
                    held.state = ": ".join(t for t in (told["state"], told["reason"]) if t)
        assert name and name not in found
        found[name] = held
    return found


_BLOCK, _FILE_HEADER = 32768, 7


def _log_records(content: bytes) -> Iterator[bytes]:
    """Take a file in LevelDB's log format apart, below W&B's own header of 7 bytes."""
    place, parts = _FILE_HEADER, b""
    while place + 7 <= len(content):
        if _BLOCK - place % _BLOCK < 7:
            place += _BLOCK - place % _BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
