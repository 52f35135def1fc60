"""Learn how many attempts a second a server allows: a pure algorithm on the caller's clock.

The model is a server that admits at most ``burst + rate * seconds`` attempts in any `seconds`, as
token buckets and windows do. The attempts admitted between two refusals bound the rate from below:
BBR's delivery rate (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue, 2016).

1. Until the first refusal nothing is limited. The attempts admitted right before it are the burst.
2. After a pause the rate starts low and grows fast, as in TCP's slow start.
3. Each further episode of refusals gives an estimate: the highest rate that the admitted attempts
   prove. The rate goes on a little below the estimate, comes near it slowly, and leaves it the
   faster the longer nothing is refused, as in CUBIC (RFC 9438), which botocore's adaptive mode
   uses as well. Unlike both, a refusal lowers the rate to an estimate, not by a fixed factor.

Refusals of attempts that started before the last pause ended belong to that episode, as RFC 9438
reduces once per round trip. A concurrency limit needs no mechanism of its own: it admits its
slots, divided by the latency, per second.
"""

import math
from collections.abc import Callable
from random import random as _random
from typing import Final, final

from distinct_async._evidence import Admissions

# When the attempt started.
Ticket = float

# A bucket that holds a whole second's worth would let twice the rate through in its first second.
_CEILING_BURST_SECONDS: Final = 0.1

# A pause must outlast the attempts in flight, and cost little if the server asks for none.
_PAUSE: Final = 0.1
# While nothing is admitted, pause for a third of that time, and so end a third too late at most.
_PAUSE_SHARE: Final = 1 / 3
_LONGEST_PAUSE: Final = 20.0
# Up to a quarter more, so that the clients of one server do not return at once.
_JITTER: Final = 0.25

# Some servers refuse a few requests at any rate, and slowing down for them never ends. So without
# a Retry-After, refusals are ignored while they are at most one in five: fewer than eight before
# anything is learned, and four at 800 attempts a second. Below 400 each one counts: a client that
# ignores a single one there starves others that share its limit.
_TOLERATED: Final = 8
_TOLERATED_SECONDS: Final = 0.005
_TOLERATED_SHARE: Final = 0.25

# The burst is what the last second before the first refusal admitted.
_BURST_SECONDS: Final = 1.0
# No estimate is made from less time.
_SHORTEST: Final = 0.02

# Fast growth is by a third per attempt, and by e in 0.3 s at most: a faster one is refused before
# enough attempts are counted, and a slower one costs more than a better estimate saves.
_FAST_ATTEMPTS: Final = 3
_FAST_SECONDS: Final = 0.3
# After an outage, start with one attempt a second: growing from less takes minutes.
_SLOWEST_START: Final = 1.0
# CUBIC keeps 0.7. An estimate is good to some percent, and 0.95 costs little.
_BETA: Final = 0.95
# Time until the rate is back at the estimate: so long that the pause of the next refusal costs less
# than a tenth. The attempts must outnumber the burst, or a window is used up before a rate beyond
# it shows.
_PLATEAU_PAUSES: Final = 12
_PLATEAU_SECONDS: Final = 12.0
_SHORTEST_PLATEAU: Final = 6.0
# The first estimate stands on a third of a second, so try more soon if a pause costs little.
_SHORTEST_FIRST_PLATEAU: Final = 1.5
_PLATEAU_ATTEMPTS: Final = 30
_PLATEAU_BURSTS: Final = 1.25
# Growth beyond the estimate is by e in 2 s: ten times the rate takes five seconds.
_PROBE_SECONDS: Final = 2.0
# The part of a run whose average counts as proven if the run outlived its plateau: the last
# quarter has the growth that was not refused.
_PROVEN_FROM: Final = 0.75

# A bucket that refuses may hold a part of an attempt, so up to one more may be taken off the burst.
# A first estimate that is too high costs another refusal, so take off less there.
_FIRST_SPARE: Final = 0.7
# A smaller burst is known to the attempt.
_CERTAIN_BURST: Final = 2
# The burst and the rate determine each other; this often is enough.
_REFINEMENTS: Final = 3

# Ten admitted attempts make an estimate. Fewer are filled up at 0.7 of the last one.
_EVIDENCE: Final = 10
_DECREASE: Final = 0.7

# Make up for a timer's lateness of 2 ms at most, and within the burst: a server without one
# refuses the attempt that comes early.
_LATE_SECONDS: Final = 0.002


@final
class Pace:
    """Says when attempts may start.

    Args:
        ceiling: The most attempts started per second, or None for no limit. A tenth of a second's
            worth, and at least one, may start at once.
        adaptive: Whether to learn the server's limit. Otherwise only the ceiling and the pauses
            that the server asks for are kept.
        random: Returns a number in [0, 1).
    """

    def __init__(
        self,
        *,
        ceiling: float | None = None,
        adaptive: bool = True,
        random: Callable[[], float] = _random,
    ) -> None:
        self._ceiling = ceiling
        self._adaptive = adaptive
        self._random = random
        self._paused_until = -math.inf
        # The learned rate, and when the next attempt may start under it.
        self._learned: float | None = None
        self._next = -math.inf
        # When the ceiling's bucket will be full again.
        self._ceiling_full = -math.inf
        # What was learned: the burst, the rate, and how far the growth to and from it has gone.
        self._burst = 1.0
        self._blast: list[tuple[int, float]] = []
        self._plateau = _PLATEAU_SECONDS
        self._estimate = math.inf
        self._progress = 0.0
        self._forget_evidence()

    def _forget_evidence(self) -> None:
        self._admissions = Admissions()
        self._admitted = 0
        # How many refusals were ignored, less a part of the attempts admitted since.
        self._score = 0.0
        # The episode: whether it goes on, and from when; when its last refused attempt started and
        # ended, and how many were admitted before that end.
        self._refusing = False
        self._refusing_from = -math.inf
        self._refused_start = -math.inf
        self._refused_at = -math.inf
        self._refused_after = 0
        # The last episode before which something was admitted, whether that is an earlier one, and
        # the start of the run since the last pause.
        self._empty_at = -math.inf
        self._empty_after = 0
        self._fruitless = False
        self._run_from = -math.inf

    @property
    def rate(self) -> float | None:
        """Attempts per second allowed at present; None while there is no limit."""
        if self._learned is None or self._ceiling is None:
            return self._ceiling if self._learned is None else self._learned
        return min(self._learned, self._ceiling)

    @property
    def paused_until(self) -> float:
        """No attempt may start before this time."""
        return self._paused_until

    def delay(self, now: float) -> float:
        """Return the seconds until the next attempt may start; 0.0 for now.

        Args:
            now: Seconds on a monotonic clock, here and below.
        """
        start = max(self._next, self._paused_until)
        if self._ceiling is not None:
            start = max(start, self._ceiling_full - self._ceiling_seconds(self._ceiling))
        return start - now if start > now else 0.0

    def start(self, now: float) -> Ticket:
        """Start an attempt; return a ticket for its end."""
        if self._refusing:
            self._resume(now)
        if self._ceiling is not None:
            self._ceiling_full = max(self._ceiling_full, now) + 1 / self._ceiling
        if self._learned is not None:
            late = max(0.0, now - self._next)
            # The rate grows only where it is what limits: RFC 9438, section 5.8.
            if late * self._learned < 1:
                self._grow(self._learned)
            credit = min(late, _LATE_SECONDS, (self._burst - 1) / self._learned)
            self._next = now - credit + 1 / self._learned
        return now

    def succeed(self, ticket: Ticket) -> None:
        """End an attempt that the server's limit admitted, whatever else its answer was."""
        self._admissions.add(ticket)
        self._admitted += 1
        if self._score:
            self._score = max(0.0, self._score - _TOLERATED_SHARE)

    def throttle(self, ticket: Ticket, now: float, *, retry_after: float | None = None) -> None:
        """End an attempt that the server refused, and pause.

        Args:
            ticket: What `start` returned.
            now: Seconds on a monotonic clock.
            retry_after: The seconds that the server asks for, if it does.
        """
        asked = max(0.0, retry_after or 0.0)
        late = ticket < self._run_from and not self._refusing
        if late or not self._adaptive:
            # A late one belongs to an episode that is over, but may ask for a longer pause.
            self._pause(now, asked)
            return
        if not self._refusing and not self._begins(now, asked):
            return
        self._refused_start = max(self._refused_start, ticket)
        self._refused_at, self._refused_after = now, self._admitted
        pause = _PAUSE if self._learned is None else max(_PAUSE, 1 / self._learned)
        if self._fruitless:
            pause = max(pause, (now - self._empty_at) * _PAUSE_SHARE)
        extra = _JITTER * self._random()
        self._pause(
            now,
            max(min(pause, _LONGEST_PAUSE) * (1 + extra), asked + extra * _PAUSE),
        )

    def _begins(self, now: float, asked: float) -> bool:
        """Return whether a refusal begins an episode; it may be one of the few that are ignored."""
        if not asked and self._admitted > self._empty_after:
            self._score += 1.0
            if self._score < min(_TOLERATED, (self._learned or math.inf) * _TOLERATED_SECONDS):
                return False
        self._score = 0.0
        self._refusing, self._refusing_from = True, now
        self._fruitless = self._learned is not None and self._admitted == self._empty_after
        return True

    def cancel(self, ticket: Ticket, now: float) -> None:
        """End an attempt without an answer, which is no evidence."""

    def _pause(self, now: float, seconds: float) -> None:
        if seconds:
            self._paused_until = max(self._paused_until, now + seconds)

    @staticmethod
    def _ceiling_seconds(ceiling: float) -> float:
        return max(_CEILING_BURST_SECONDS, 1 / ceiling) - 1 / ceiling

    def _resume(self, now: float) -> None:
        """End an episode: estimate the rate, and start a run."""
        self._refusing = False
        first = self._estimate == math.inf
        if self._learned is None:
            self._blast = self._first_blast()
            self._burst = self._burst_at(0.0)
        elif not self._fruitless:
            # Growth starts from the estimate, so no lower one may stop it.
            self._estimate = max(self._improved_estimate(), 1 / _LONGEST_PAUSE)
        if not self._fruitless:
            self._empty_at, self._empty_after = self._refused_at, self._refused_after
        self._learned = self._estimate * _BETA
        if self._fruitless or self._estimate == math.inf:
            # The burst can have regained no more; if the server gives less, it refuses soon.
            regained = self._burst / max(now - self._empty_at, _SHORTEST)
            self._learned = min(self._learned, max(regained, _SLOWEST_START))
        self._learned = max(self._learned, 1 / _LONGEST_PAUSE)
        shortest = _SHORTEST_FIRST_PLATEAU if first else _SHORTEST_PLATEAU
        pause = now - self._refused_at
        self._plateau = min(max(shortest, _PLATEAU_PAUSES * pause), _PLATEAU_SECONDS)
        self._run_from = self._next = now
        self._progress = 0.0

    def _first_blast(self) -> list[tuple[int, float]]:
        """Return how many attempts were admitted in how many seconds before the first refusal."""
        # New connections reach the server in any order, so count a little further.
        end = min(self._refusing_from, self._refused_start + _SHORTEST)
        windows = self._admissions.windows(end - _BURST_SECONDS, end)
        return [(count, self._refused_start - start) for start, count in windows]

    def _improved_estimate(self) -> float:
        """Return the estimate; after the second episode, of the burst as well.

        The first blast was admitted by the burst and by what the rate added meanwhile.
        """
        known = self._learned or math.inf
        estimate = min(self._estimated(), known)
        if self._estimate == math.inf:
            for _ in range(_REFINEMENTS):
                self._burst = self._burst_at(estimate)
                estimate = min(self._estimated(), known)
        return estimate

    def _burst_at(self, rate: float) -> float:
        """Return what the first blast proves beyond what the rate added meanwhile."""
        added = ((count, rate * seconds - 0.5) for count, seconds in self._blast)
        return max([1.0, *(count - max(0.0, more) for count, more in added)])

    def _estimated(self) -> float:
        """Return the highest rate that the admitted attempts prove."""
        # The burst was used up at the last episode, and is again.
        admitted = float(self._refused_after - self._empty_after)
        best = self._rate_of(admitted, self._refused_at - self._empty_at)
        end, plateau = self._refused_start, self._run_from
        if self._progress > 1:
            plateau += (end - plateau) * _PROVEN_FROM
        first = self._estimate == math.inf and self._burst > _CERTAIN_BURST
        spare = self._burst - (_FIRST_SPARE if first else 1.0)
        whole = True
        for start, count in self._admissions.windows(self._run_from, end):
            # After a plateau the burst explains little, and less if the limit has windows.
            admitted = count - (0.0 if start < plateau else spare)
            if whole or admitted >= _EVIDENCE:
                best = max(best, self._rate_of(admitted, end - start))
            whole = False
        return best

    def _rate_of(self, admitted: float, seconds: float) -> float:
        """Return a rate; few attempts count as a part of `_EVIDENCE` at a lower rate than now."""
        missing = max(0, _EVIDENCE - max(0, admitted)) if self._estimate < math.inf else 0
        known = max(0, admitted) + missing
        return known / (max(seconds, _SHORTEST) + missing / (_DECREASE * self._estimate))

    def _grow(self, rate: float) -> None:
        if rate < _BETA * self._estimate:
            self._learned = rate + min(rate / _FAST_ATTEMPTS, 1 / _FAST_SECONDS)
            return
        attempts = max(_PLATEAU_ATTEMPTS, _PLATEAU_BURSTS * self._burst)
        self._progress += min(1 / (rate * self._plateau), 1 / attempts)
        if self._progress < 1:
            self._learned = self._estimate * (1 - (1 - _BETA) * (1 - self._progress) ** 3)
        else:
            self._learned = rate + min(rate / (2 * attempts), 1 / _PROBE_SECONDS)
