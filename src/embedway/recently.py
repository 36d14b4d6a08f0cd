"""What was asked for a moment ago: values by name, forgotten when nobody asks for them any more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recently(Generic[T]):
    """Makes a value at the first question for its name, and forgets it *keep_s* seconds after the
    last one. Needs no timer: each question also looks at who was not asked for longest."""

    def __init__(
        self, make: Callable[[], T], keep_s: float, monotonic: Callable[[], float]
    ) -> None:
        self._make = make
        self._keep_s = keep_s
        self._monotonic = monotonic
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()
        """Each with the time of its last question, the oldest first."""

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> T:
        """The value of that name."""
        now = self._monotonic()
        self._forget(now)
        found = self._values.pop(name, None)
        value = self._make() if found is None else found[1]
        self._values[name] = (now, value)
        return value

    def drop(self, name: str) -> None:
        """Forget it now, if it is there."""
        self._values.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()

    def _forget(self, now: float) -> None:
        while self._values:
            asked_at, _ = next(iter(self._values.values()))
            if now - asked_at < self._keep_s:
                return
            self._values.popitem(last=False)
