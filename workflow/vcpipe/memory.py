"""Memory that is freed is kept for the next batch, instead of going back to the system.

Batches are arrays of a megabyte that come and go by the thousand. What the system gives anew it
clears first, page by page: with two threads that took a third of the time of loading.
"""

import ctypes
from functools import cache

# Names of glibc's mallopt, and its largest threshold: larger arrays are mapped on their own.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_THRESHOLD = 2**25
MOST_KEPT = 2**30


@cache
def keep_freed_memory() -> bool:
    """For this process, from now on; False where the C library has no such switch."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(
        mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
    )
