"""Samples that can't be used: counted by reason, named in the log, tolerated up to a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nas_t2i.errors import UserError

_NAMED = 5  # samples of one reason that are all named; then one at each doubling of their number
_EARLIEST = 1000  # samples to see before a run is stopped on the way


class BadSampleError(Exception):
    """One sample that can't be used; `reason` is short and the same for all of its kind.

    It never leaves the code that reads data: whoever catches it counts it with `BadSamples`.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TooManyBadSamplesError(UserError):
    """More samples are bad than the budget's data.bad_share allows."""

    def __init__(self, counts: Mapping[str, int], seen: int, share: float) -> None:
        bad = sum(counts.values())
        by_number = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        reasons = ", ".join(f"{number} {reason}" for reason, number in by_number)
        super().__init__(
            f"data: {bad} of {seen} samples are bad ({reasons}); expected at most a share of "
            f"{share:g} (data.bad_share)"
        )


class BadSamples:
    """Counts good and bad samples and stops once the bad ones are past the declared share.

    Args:
        share: of the samples seen that may be bad.
        say: takes a line for the log; each reason is logged five times, then at each doubling.
    """

    def __init__(self, share: float, say: Callable[[str], None]) -> None:
        self.counts: dict[str, int] = {}
        self._share = share
        self._say = say
        self._seen = 0

    def good(self, count: int = 1) -> None:
        """Count samples that could be used."""
        self._seen += count

    def bad(self, name: str, reason: str) -> None:
        """Count one that could not.

        Bad samples come in runs (a broken shard), so that on the way only a clear excess stops:
        more than twice the share, of at least 1000 samples. With a share of 0 the first one does.

        Raises:
            TooManyBadSamplesError: the share is clearly exceeded.
        """
        self._seen += 1
        number = self.counts[reason] = self.counts.get(reason, 0) + 1
        if number <= _NAMED or number & (number - 1) == 0:
            so_far = f" ({number} so far)" if number > 1 else ""
            self._say(f"bad sample {name}: {reason}{so_far}")
        bad = sum(self.counts.values())
        if self._share == 0 or (self._seen >= _EARLIEST and bad > 2 * self._share * self._seen):
            raise TooManyBadSamplesError(self.counts, self._seen, self._share)

    def finish(self) -> None:
        """Hold all that was seen to the share.

        Raises:
            TooManyBadSamplesError: the share is exceeded.
        """
        if sum(self.counts.values()) > self._share * self._seen:
            raise TooManyBadSamplesError(self.counts, self._seen, self._share)
