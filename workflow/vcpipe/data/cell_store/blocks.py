"""A block: some hundred cells that are compressed, read and checked together.

Sixteen bytes of header, then one compressed piece. Nothing is rounded or cut: what does not fit
into 16 bits stands in a list behind.
"""

# B cells of a block, N detected features of all of them

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from vcpipe.data.cell_store.cells import Cells
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled

NUM_HEADER_BYTES = 16  # uint32: B, N, and the lengths of the two lists behind
FIXED = 8 + 8 + 4  # bytes per cell: key, total, number of detected features
BESIDE = np.uint16(65535)  # in place of a number that stands in the list
LARGEST_COUNT = 2**32 - 1
CODECS = {"zstd": "zstd", "lz4": "lz4_raw"}


def encode(cells: Cells, chosen: np.ndarray, compression: str, level: int) -> bytes:
    """One block of the chosen cells, in this order."""
    lengths_B = cells.lengths[chosen]
    N, B = int(lengths_B.sum(dtype=np.int64)), len(chosen)
    # The list of deltas follows the planes and is at most as long; memory that is not written to
    # costs nothing.
    raw = np.empty(FIXED * B + 8 * N, dtype=np.uint8)
    raw[: 8 * B].view(np.uint64)[:] = cells.keys[chosen]
    raw[8 * B : 16 * B].view(np.uint64)[:] = cells.totals[chosen]
    raw[16 * B : 20 * B].view(np.uint32)[:] = lengths_B
    planes = raw[FIXED * B : FIXED * B + 4 * N].reshape(4, N)
    large = raw[FIXED * B + 4 * N :].view(np.uint32)
    large_counts = np.empty(N, dtype=np.uint32)
    deltas, counts = _pack(
        cells.first, cells.lengths, cells.ids, cells.counts, chosen, planes, large, large_counts
    )
    if counts:
        both = np.concatenate([large[:deltas], large_counts[:counts]])
        raw = np.concatenate([raw[: FIXED * B + 4 * N], both.view(np.uint8)])
    size = FIXED * B + 4 * N + 4 * (deltas + counts)
    header = np.array([B, N, deltas, counts], dtype="<u4").tobytes()
    codec = pa.Codec(CODECS[compression], compression_level=level)
    return header + codec.compress(raw[:size], asbytes=True)


@dataclass(frozen=True)
class OpenBlock:
    """A block without its compression: where its cells begin, and all else still in bytes."""

    starts: np.ndarray  # int64 [B + 1]
    totals: np.ndarray  # uint64 [B]
    keys: np.ndarray  # uint64 [B]
    planes: np.ndarray  # uint8 [4, N]: low and high bytes of gaps and counts
    large_gaps: np.ndarray  # uint32
    large_counts: np.ndarray

    def unpack(self, ids: np.ndarray, counts: np.ndarray) -> None:
        """Write all entries into arrays of N, of any kind that holds them."""
        fits = self.starts[-1] == len(ids) and _unpack(
            self.starts, self.planes, self.large_gaps, self.large_counts, ids, counts
        )
        if not fits:
            raise ValueError("its lists of large numbers are not as long as they are used")


@cache
def _pool() -> pa.MemoryPool:
    """Memory that comes and goes by the megabyte, a block at a time.

    Arrow's default, mimalloc, gives it back to the system, which clears it for the next block: a
    quarter of the time of reading.
    """
    has_jemalloc = "jemalloc" in pa.supported_memory_backends()
    return pa.jemalloc_memory_pool() if has_jemalloc else pa.system_memory_pool()


def open_block(block: bytes, compression: str) -> OpenBlock:
    """Decompress a block; ValueError where it is none."""
    B, N, gaps, counts = (
        int(number) for number in np.frombuffer(block[:NUM_HEADER_BYTES], dtype="<u4")
    )
    size = FIXED * B + 4 * (N + gaps + counts)
    packed = memoryview(block)[NUM_HEADER_BYTES:]
    codec = pa.Codec(CODECS[compression])
    raw = np.frombuffer(codec.decompress(packed, size, memory_pool=_pool()), dtype=np.uint8)
    starts = np.zeros(B + 1, dtype=np.int64)
    np.cumsum(raw[16 * B : 20 * B].view(np.uint32), out=starts[1:])
    large = raw[FIXED * B + 4 * N :].view(np.uint32)
    return OpenBlock(
        starts,
        totals=raw[8 * B : 16 * B].view(np.uint64),
        keys=raw[: 8 * B].view(np.uint64),
        planes=raw[FIXED * B : FIXED * B + 4 * N].reshape(4, N),
        large_gaps=large[:gaps],
        large_counts=large[gaps:],
    )


def decode(block: bytes, compression: str) -> Rows:
    """The cells of a block; ValueError where it is none."""
    its = open_block(block, compression)
    ids, counts = (np.empty(its.planes.shape[1], dtype=kind) for kind in (np.int32, np.uint32))
    its.unpack(ids, counts)
    return Rows(its.starts, ids, counts, its.totals.copy(), its.keys.copy())


@compiled
def _pack(first, lengths, ids, counts, chosen, planes, large_deltas, large_counts):
    """Low and high bytes of the gaps between ids, and of the counts; what is too large, apart."""
    num_deltas = num_counts = place = 0
    for cell in chosen:
        before = -1
        for entry in range(first[cell], first[cell] + lengths[cell]):
            delta, count = np.uint32(ids[entry] - before - 1), counts[entry]
            before = ids[entry]
            if delta >= BESIDE:
                large_deltas[num_deltas] = delta
                num_deltas += 1
                delta = np.uint32(BESIDE)
            if count >= BESIDE:
                large_counts[num_counts] = count
                num_counts += 1
                count = np.uint32(BESIDE)
            planes[0, place] = delta & np.uint32(255)
            planes[1, place] = delta >> np.uint32(8)
            planes[2, place] = count & np.uint32(255)
            planes[3, place] = count >> np.uint32(8)
            place += 1
    return num_deltas, num_counts


@compiled
def _unpack(starts, planes, large_gaps, large_counts, ids, counts) -> bool:
    """Plain loops, several entries at a time; numbers of the lists, which are rare, after."""
    low, high = planes[0], planes[1]
    for entry in range(len(ids)):
        ids[entry] = np.uint16(low[entry]) | (np.uint16(high[entry]) << np.uint16(8))
    low, high = planes[2], planes[3]
    for entry in range(len(counts)):
        counts[entry] = np.uint16(low[entry]) | (np.uint16(high[entry]) << np.uint16(8))
    fits = _replace(ids, large_gaps) and _replace(counts, large_counts)
    for cell in range(len(starts) - 1):
        before, its = np.int32(-1), ids[starts[cell] : starts[cell + 1]]
        for entry in range(len(its)):
            before = np.int32(before + np.int32(its[entry]) + np.int32(1))
            its[entry] = before
    return fits


@compiled
def _replace(numbers, large) -> bool:
    if len(large) == 0:
        return True
    taken = 0
    for entry in range(len(numbers)):
        if numbers[entry] == BESIDE:
            if taken == len(large):
                return False
            numbers[entry] = large[taken]
            taken += 1
    return taken == len(large)
