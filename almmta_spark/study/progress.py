"""How far a study is and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from almmta_spark.study.records import Key

FIXED_USERS = 15_000
"""A stage takes time even for no user: as much as this many users more."""


@dataclass
class Progress:
    """Steps of nights as they are done; a step's weight is what it is expected to cost beside the others."""

    nights: Sequence[tuple[Key, Sequence[tuple[str, float]]]]
    """Each night to run with its steps, (name, share of a night), in order."""
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    _spent: dict[tuple[int, str], float] = field(default_factory=dict, init=False)
    """Seconds a step took, by night and name; what an earlier run had done is left out."""
    _done: set[tuple[int, str]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def done(self, night: int, step: str, seconds: float | None) -> None:
        """seconds: None where an earlier run had done the step."""
        self._done.add((night, step))
        if seconds is not None:
            self._spent[night, step] = seconds

    def give_up(self, night: int) -> None:
        """None of the night's steps is to come any more."""
        self._done.update((night, step) for step, _ in self.nights[night][1])

    def seconds_left(self) -> float | None:
        """Of the steps to come, by what those done have taken for their weight; None before the first."""
        weights = {(i, s): self._weight(key, share) for i, (key, steps) in enumerate(self.nights) for s, share in steps}
        known = sum(weights[step] for step in self._spent)
        if not known:
            return None
        return sum(self._spent.values()) / known * sum(w for step, w in weights.items() if step not in self._done)

    def line(self, night: int, step: str) -> str:
        """Which night of how many, which step, how long it has been and will be."""
        left = self.seconds_left()
        rest = "time left not known yet" if left is None else f"about {duration(left)} left"
        key = self.nights[night][0]
        elapsed = duration(self.clock() - self.started)
        return f"night {night + 1} of {len(self.nights)} ({key}): {step}; {elapsed} so far, {rest}"

    @staticmethod
    def _weight(key: Key, share: float) -> float:
        return share * (key.n + FIXED_USERS)


def duration(seconds: float) -> str:
    """42 s, 7 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
