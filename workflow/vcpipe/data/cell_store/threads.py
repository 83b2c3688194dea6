"""Work for several threads whose results come in order; numba, zstd and xxh3 release the GIL."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

# More threads than these find nothing to do.
UNDER_WAY = 16


def in_order(pool: ThreadPoolExecutor | None, function: Callable, items: Iterable) -> Iterator:
    """map, with a few items under way at a time; in this thread where there is no pool."""
    if pool is None:
        yield from map(function, items)
        return
    under_way: deque = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= UNDER_WAY:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for each in under_way:
            each.cancel()
