"""What the driver hears of ranks far away: one question open to each, answered in a thread."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import threading
import time
from functools import partial
from typing import Any

import ray

from nas_t2i.search.on_ray.cluster import one_line

_LISTEN_SECONDS = 5.0  # that a rank keeps a question open when there is only progress to tell
_AGAIN_SECONDS = 1.0  # between a question that did not get through and the next


class Ears(threading.Thread):
    """The thread that takes answers and asks on, whatever the driver's own thread waits for."""

    def __init__(self, lease_seconds: float) -> None:
        super().__init__(name="ears", daemon=True)
        # Given up well before the lease runs out: the rest of it is waited for in any case.
        self.patience_seconds = lease_seconds / 4
        self.listen_seconds = min(_LISTEN_SECONDS, lease_seconds / 8)
        self._answers: queue.SimpleQueue[tuple[FarRank, Any] | None] = queue.SimpleQueue()
        self._later: list[tuple[float, int, FarRank]] = []
        self._number = itertools.count()
        self.start()

    def answered(self, rank: FarRank, future: Any) -> None:
        """Take an answer from one of Ray's threads."""
        self._answers.put((rank, future))

    def close(self) -> None:
        """End the thread."""
        self._answers.put(None)

    def run(self) -> None:
        """Take answers until closed."""
        while True:
            wait = self._later[0][0] - time.monotonic() if self._later else None
            with contextlib.suppress(queue.Empty):
                answer = self._answers.get(timeout=None if wait is None else max(0.0, wait))
                if answer is None:
                    return
                rank, future = answer
                if pause := rank.take(future):
                    item = (time.monotonic() + pause, next(self._number), rank)
                    heapq.heappush(self._later, item)
            while self._later and self._later[0][0] <= time.monotonic():
                heapq.heappop(self._later)[2].ask()


class FarRank:
    """A rank of a trial, as far as the driver has heard."""

    def __init__(self, number: int, actor: Any, begun: Any, ears: Ears) -> None:
        """`begun` is the reference to the answer of the actor's `begin`."""
        self.number = number
        self.node = self.node_id = ""
        self.ended = 0.0  # when its end was heard of (monotonic seconds); 0: it runs
        self.status: int | None = None
        self.said = self.problem = self.unsent = ""
        self.is_lost = False  # it ended, or not: nobody saw it
        self.moves = False  # it brings or sends files: its silence is not the trial's
        self.asked_at = time.monotonic()
        self._actor, self._ears = actor, ears
        self._lines: list[bytes] = []
        self._count = 0  # lines heard so far
        self._words: list[str] = []
        self._silent_since = 0.0
        self._lock = threading.Lock()
        begun.future().add_done_callback(self._begun)
        self.ask()

    def take_lines(self) -> list[bytes]:
        """Return the lines that came since the last call."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def say(self, word: str) -> None:
        """Send a word; it is sent again when the rank was out of reach for a while."""
        self._words.append(word)
        self._actor.say.remote(word)

    def kill(self, number: int) -> None:
        """Send a signal to its process."""
        self._actor.kill.remote(number)

    def lose(self, problem: str) -> None:
        """Count it as lost."""
        with self._lock:
            if not self.ended:
                self.problem, self.is_lost, self.ended = problem, True, time.monotonic()

    def ask(self) -> None:
        """Ask for what is new."""
        if self.ended:
            return
        self.asked_at = time.monotonic()
        try:
            answer = self._actor.listen.remote(self._count, self._ears.listen_seconds)
        except Exception as error:
            self.lose(one_line(error))
            return
        answer.future().add_done_callback(partial(self._ears.answered, self))

    def take(self, future: Any) -> float:
        """Take an answer, and ask on; return after how many seconds to ask again, else 0."""
        try:
            heard = future.result()
        except ray.exceptions.ActorUnavailableError as error:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since < self._ears.patience_seconds:
                return _AGAIN_SECONDS
            self.lose(one_line(error))
            return 0.0
        except Exception as error:
            self.lose(one_line(error))
            return 0.0
        with self._lock:
            self._lines += heard.lines
            self._count += len(heard.lines)
            self.moves = heard.moves
            if heard.status is not None:
                self.status, self.said, self.unsent = heard.status, heard.said, heard.unsent
                self.ended = self.ended or time.monotonic()
        if self._silent_since:
            self._silent_since = 0.0
            for word in list(self._words):
                self._actor.say.remote(word)
        self.ask()
        return 0.0

    def _begun(self, future: Any) -> None:
        try:
            self.node, self.node_id = future.result()
        except ray.exceptions.RayTaskError as error:  # it looked, and did not start
            with self._lock:
                self.problem, self.ended = one_line(error), time.monotonic()
        except Exception:  # noqa: S110  it is heard of by the open question
            pass
