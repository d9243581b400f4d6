"""MLflow: any tracking URI of its client, such as a server or ``sqlite:///mlflow.db``."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nas_t2i.tracking.tracker import NOTHING, Row, Run, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

_KEY_TAG = "nas_t2i.run"
_STATE_TAG = "state"
_STATUS = {"failed": "FAILED", "diverged": "FAILED", "interrupted": "KILLED"}
_UNNAMEABLE = re.compile(r"[^\w\-. :/]")  # in keys, to MLflow
_LAST = "step"
"""A metric of its own: logged behind the others of a row, it says that the row is whole."""
_MOST = 900  # metrics in a batch; MLflow takes 1,000


@dataclass
class _Open:
    """A run that has begun."""

    run_id: str
    ended: str = ""  # the state in which an earlier process ended it


class Mlflow(Tracker):
    """An experiment for each study, found by name, and in it a run, found by a tag of its key."""

    TAKES: ClassVar[str] = "URI"
    PACKAGES: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "requests")
    EXTRA: ClassVar[str] = "mlflow"

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._open: dict[str, _Open] = {}

    def begin(self, run: Run) -> int:
        """Find the run of that key, or create it with its params."""
        from mlflow.entities import Param

        client, experiment = self._opened(run.study)
        found = client.search_runs([experiment], f"tags.`{_KEY_TAG}` = '{run.key}'", max_results=1)
        if found:
            run_id, tags = found[0].info.run_id, found[0].data.tags
            self._open[run.key] = _Open(run_id, tags.get(_STATE_TAG, ""))
            history = client.get_metric_history(run_id, _LAST)
            return max((metric.step for metric in history), default=NOTHING)
        tags = {_KEY_TAG: run.key, "mlflow.runName": run.name}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        self._open[run.key] = _Open(run_id)
        params = [Param(_nameable(name), str(value)) for name, value in run.params.items()]
        client.log_batch(run_id, params=params)
        return NOTHING

    def log(self, run: Run, rows: Sequence[Row]) -> None:
        """Log images first, then the metrics of whole rows."""
        client, opened = self._opened(run.study)[0], self._open[run.key]
        if opened.ended:
            client.update_run(opened.run_id, status="RUNNING")
            opened.ended = ""
        for row in rows:
            for name, image in row.images.items():
                client.log_image(opened.run_id, image, f"{_nameable(name)}/{row.step:09d}.png")
        batch: list[Any] = []
        for row in rows:
            metrics = self._metrics(row)
            if len(batch) + len(metrics) > _MOST:
                client.log_batch(opened.run_id, metrics=batch)
                batch = []
            batch += metrics
        client.log_batch(opened.run_id, metrics=batch)

    def end(self, run: Run, state: str, reason: str) -> None:
        """Terminate a run; how and why stand in its tags."""
        client, opened = self._opened(run.study)[0], self._open.pop(run.key)
        if opened.ended == state:
            return
        client.set_tag(opened.run_id, _STATE_TAG, state)
        client.set_tag(opened.run_id, "reason", reason)
        client.set_terminated(opened.run_id, _STATUS.get(state, "FINISHED"))

    def _metrics(self, row: Row) -> list[Any]:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        values = {**row.values, _LAST: row.step}
        return [Metric(_nameable(k), float(v), now, row.step) for k, v in values.items()]

    def _opened(self, study: str) -> tuple[MlflowClient, str]:
        if self._client is None:
            from mlflow import MlflowClient

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=self.where)
        if study not in self._experiments:
            found = self._client.get_experiment_by_name(study)
            self._experiments[study] = (
                found.experiment_id if found else self._client.create_experiment(study)
            )
        return self._client, self._experiments[study]


def _nameable(name: str) -> str:
    return _UNNAMEABLE.sub(".", name.replace("]", ""))
