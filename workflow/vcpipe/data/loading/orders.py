"""An epoch as a sequence of draws, in units of draws that are read together.

An order is asked for unit by unit, so that one of a hundred million cells takes no more memory than
one of a thousand.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vcpipe.data.order import generator_of

Numbers = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Order:
    """`num_draws` draws; unit u is draws u × unit to (u + 1) × unit, the last unit may be short.

    Draws ascend with positions, so that the cells of a unit lie near each other.
    """

    num_draws: int
    unit: int
    whole_units: Numbers  # numbers of whole units, by their place among themselves
    short_place: int  # where the short unit stands, if there is one
    positions: Numbers  # of draws
    is_mixed: bool  # whether the cells of a buffer are shuffled
    seed: int
    epoch: int

    @property
    def num_units(self) -> int:
        return -(-self.num_draws // self.unit)

    @property
    def num_missing(self) -> int:
        """Draws that the short unit lacks."""
        return self.num_units * self.unit - self.num_draws

    def num_before(self, place: int) -> int:
        """Draws of the units at the places before this one."""
        return place * self.unit - (self.num_missing if place > self.short_place else 0)

    def units(self, places: np.ndarray) -> np.ndarray:
        """Numbers of the units at some places."""
        if not self.num_missing:
            return self.whole_units(places)
        short = self.num_units - 1
        whole = np.minimum(places - (places > self.short_place), max(short - 1, 0))
        found = self.whole_units(whole) if short else np.zeros(len(places), dtype=np.int64)
        return np.where(places == self.short_place, short, found)

    def draws(self, units: np.ndarray) -> np.ndarray:
        """Draws of some units, one unit after the other."""
        made = (units[:, None] * self.unit + np.arange(self.unit)).ravel()
        return made[made < self.num_draws] if self.num_missing else made

    def draws_between(self, first: int, last: int) -> np.ndarray:
        """The draws from one place of the epoch to another, counted in draws."""
        if first >= last:
            return np.zeros(0, dtype=np.int64)
        begin, end = self.place_of(first), self.place_of(last - 1) + 1
        made = self.draws(self.units(np.arange(begin, end)))
        before = self.num_before(begin)
        return made[first - before : last - before]

    def place_of(self, draw: int) -> int:
        """The unit's place that holds the draw at a place of the epoch."""
        place = draw // self.unit
        # Behind the short unit all stand earlier than they would.
        if self.num_missing and draw >= self.num_before(self.short_place + 1):
            place = (draw + self.num_missing) // self.unit
        return place

    def generator(self, *key: int) -> np.random.Generator:
        """For what is drawn of a buffer of this epoch."""
        return generator_of(self.seed, self.epoch, 6, *key)


def as_they_are(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int64)
