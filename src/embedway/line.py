"""Who waits for something of which there is not enough: keys take turns, so that one that asks for
much does not keep the others waiting."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Keyed(Protocol):
    """Belongs to a gateway key."""

    @property
    def key(self) -> str:
        """The key's id."""
        ...


T = TypeVar("T", bound=Keyed)


class Line(Generic[T]):
    """What a key waits for, in the order it came, and the keys by turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        """By key; the one whose turn is next comes first."""
        self.length = 0

    def __iter__(self) -> Iterator[T]:
        return (one for queue in self._queues.values() for one in queue)

    def __contains__(self, one: T) -> bool:
        return one in self._queues.get(one.key, ())

    def has(self, key: str) -> bool:
        """Whether something of that key waits."""
        return key in self._queues

    def join(self, one: T) -> None:
        """Behind the others of its key; who is there already stays where he is."""
        if one not in self:
            self._queues.setdefault(one.key, OrderedDict())[one] = None
            self.length += 1

    def rejoin(self, one: T) -> None:
        """Before all others: its turn had come already."""
        self.join(one)
        self._queues[one.key].move_to_end(one, last=False)
        self.prefer(one.key)

    def leave(self, one: T) -> None:
        """From wherever it stands, if it is still there."""
        if one in self:
            queue = self._queues[one.key]
            del queue[one]
            self.length -= 1
            if not queue:
                del self._queues[one.key]

    @property
    def first(self) -> T | None:
        """Whose turn it is."""
        return next(iter(self), None)

    def prefer(self, key: str) -> None:
        """It is the turn of a key that waits."""
        self._queues.move_to_end(key, last=False)

    def pass_on(self, one: T) -> None:
        """It has had its turn: it goes behind the others of its key, and its key behind all."""
        self._queues[one.key].move_to_end(one)
        self._queues.move_to_end(one.key)

    def take(self, one: T) -> None:
        """Its turn has come: it leaves, and its key goes behind the others."""
        self.pass_on(one)
        self.leave(one)

    def greediest(self, newcomer: T) -> T:
        """Who must go if there is one too many: the last of the key that has most waiting."""
        longest = max(self._queues.values(), key=len)
        own = self._queues.get(newcomer.key, ())
        return newcomer if len(own) + 1 >= len(longest) else next(reversed(longest))
