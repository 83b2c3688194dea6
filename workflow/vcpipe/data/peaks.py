"""Peaks: intervals of chromosomes under many spellings, made one set for many files.

An interval holds its start and not its end, as in BED: chr1:100-200 and chr1:200-300 touch and do
not overlap.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcpipe.data.sparse_rows import compiled
from vcpipe.errors import InputError, listed

COLON, ZERO, NINE = (ord(letter) for letter in ":09")
SIGNS = (ord("-"), ord("_"))
# Chromosomes after those with a number.
AFTER_NUMBERS = {"X": 0, "Y": 1, "M": 2, "MT": 2}


@dataclass(frozen=True)
class Peaks:
    chromosomes: list[str]  # in natural order: chr2 before chr10, chrX, chrY, chrM, all others
    chromosome: np.ndarray  # int32: of each peak, its number in that list
    starts: np.ndarray  # int64
    ends: np.ndarray  # int64

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def names(self) -> np.ndarray:
        """Canonical names: chr1:100-200."""
        chromosomes = [self.chromosomes[number] for number in self.chromosome.tolist()]
        parts = zip(chromosomes, self.starts.tolist(), self.ends.tolist(), strict=True)
        return np.array([f"{name}:{start}-{end}" for name, start, end in parts], dtype=str)


def parse_peaks(names: np.ndarray, where: str = "peaks") -> Peaks:
    """Read chr1:100-200, chr1-100-200, chr1_100_200; the last two numbers are start and end."""
    names = np.ascontiguousarray(names, dtype=str)
    letters = names.view(np.uint32).reshape(len(names), names.itemsize // 4).copy()
    starts, ends = np.empty((2, len(names)), dtype=np.int64)
    is_peak = np.empty(len(names), dtype=np.bool_)
    _parse(letters, starts, ends, is_peak)
    wrong = names[~is_peak]
    if len(wrong):
        raise InputError(
            f"{where}: {len(wrong)} of {len(names)} names are no peaks: "
            f"{', '.join(map(repr, wrong[:3].tolist()))}; expected chr1:100-200, chr1-100-200 or "
            "chr1_100_200, the start before the end."
        )
    found, distinct = pd.factorize(letters.view(names.dtype).ravel().astype(object))
    chromosomes = sorted(distinct.tolist(), key=natural)
    number = {name: place for place, name in enumerate(chromosomes)}
    order = np.array([number[name] for name in distinct], dtype=np.int32)
    return Peaks(chromosomes, order[found] if len(order) else found.astype(np.int32), starts, ends)


@compiled
def _parse(letters, starts, ends, is_peak):
    """Read both numbers from the end of each name, and leave the chromosome's letters only."""
    width = letters.shape[1]
    for peak in range(len(letters)):
        last = width - 1
        while last >= 0 and letters[peak, last] == 0:
            last -= 1
        numbers = (ends, starts)
        good = True
        for which in range(2):
            value, scale, digits = 0, 1, 0
            while last >= 0 and ZERO <= letters[peak, last] <= NINE and digits < 18:
                value += (np.int64(letters[peak, last]) - ZERO) * scale
                scale *= 10
                digits += 1
                last -= 1
            between = np.int64(letters[peak, last]) if last >= 0 else 0
            is_sign = between in SIGNS or (which == 1 and between == COLON)
            good = good and digits > 0 and is_sign
            numbers[which][peak] = value
            last -= 1
        # chr1:-100-200 is no peak of a chromosome "chr1:".
        before = np.int64(letters[peak, last]) if last >= 0 else COLON
        is_peak[peak] = good and before not in SIGNS and before != COLON
        is_peak[peak] &= starts[peak] < ends[peak]
        letters[peak, max(last + 1, 0) :] = 0


def natural(chromosome: str) -> tuple:
    """A key that sorts chr1, chr2, chr10, chrX, chrY, chrM, chr1_random, GL000194.1."""
    bare = re.sub(r"^chr", "", chromosome, flags=re.IGNORECASE)
    if bare.isdecimal():
        return 0, int(bare), [], chromosome
    if bare.upper() in AFTER_NUMBERS:
        return 1, AFTER_NUMBERS[bare.upper()], [], chromosome
    parts = re.split(r"(\d+)", bare)
    return (
        2,
        0,
        [(True, int(part)) if part.isdecimal() else (False, part) for part in parts],
        chromosome,
    )


def unify_peaks(
    files: list[np.ndarray], how: str, join: str = "union", paths: Sequence[str] = ()
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Common peaks of some files, and of each file's peaks the place among them (-1: left out).

    `how` is exact (same chromosome, start and end) or overlap, `join` is union or intersection
    (those with a peak of every file); `paths` are for messages. The order of files does not matter.

    By overlap, peaks are taken by start and end; the same ones of several files are one. The next
    joins the merged peak before it where both overlap and that holds no peak of its files yet;
    else it begins the next merged peak. So the peaks of one file stay apart, and merged peaks may
    overlap where they do.
    """
    paths = paths or [f"file {number}" for number in range(1, len(files) + 1)]
    parsed = [parse_peaks(names, path) for names, path in zip(files, paths, strict=True)]
    refuse_other_names(parsed)
    joined = _joined(parsed)
    place, distinct = _distinct(joined.chromosome, joined.starts, joined.ends)
    if how == "overlap":
        file_of = np.repeat(np.arange(len(parsed)), [len(part) for part in parsed])
        order = np.argsort(place, kind="stable")
        limits = np.searchsorted(place[order], np.arange(len(distinct[0]) + 1))
        merged, ends = _merge(*distinct, limits, file_of[order], len(parsed))
        first = np.flatnonzero(np.diff(merged, prepend=-1))
        # Sorted and distinct: of two that start alike the second one's first peak ends later.
        distinct = distinct[0][first], distinct[1][first], ends[: len(first)]
        place = merged[place]
    maps = np.split(place, np.cumsum([len(part) for part in parsed])[:-1])
    names = Peaks(joined.chromosomes, *distinct).names
    if join == "intersection":
        in_all = np.logical_and.reduce([np.bincount(its, minlength=len(names)) > 0 for its in maps])
        renumbered = np.where(in_all, np.cumsum(in_all) - 1, -1)
        names, maps = names[in_all], [renumbered[its] for its in maps]
    return names, [its.astype(np.int32) for its in maps]


def _distinct(chromosome, starts, ends) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Of each interval its place among the distinct ones, and these, sorted."""
    columns = chromosome, starts, ends
    order = np.lexsort(columns[::-1])
    is_other = np.zeros(len(order), dtype=bool)
    is_other[:1] = True
    for column in columns:
        is_other[1:] |= np.diff(column[order]) != 0
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(is_other) - 1
    return place, tuple(column[order][is_other] for column in columns)


@compiled
def _merge(chromosome, starts, ends, limits, files, num_files):
    """Of each sorted interval the number of its merged peak, and where that one ends."""
    merged, merged_ends = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    # The merged peak that holds the last peak of each file.
    last = np.full(num_files, -1, np.int64)
    number = -1
    for peak in range(len(starts)):
        joins = number >= 0 and chromosome[peak] == chromosome[peak - 1]
        joins = joins and starts[peak] < merged_ends[number]
        for file in files[limits[peak] : limits[peak + 1]]:
            joins = joins and last[file] < number
        if joins:
            merged_ends[number] = max(merged_ends[number], ends[peak])
        else:
            number += 1
            merged_ends[number] = ends[peak]
        merged[peak] = number
        for file in files[limits[peak] : limits[peak + 1]]:
            last[file] = number
    return merged, merged_ends


def place_peaks(
    names: np.ndarray, vocabulary: np.ndarray, how: str, path: str = "peaks"
) -> np.ndarray:
    """Of each peak its place in a given list of peaks, or -1.

    By overlap it is the one with the longest overlap, of several such the shortest, then the first
    in the list.
    """
    peaks, given = parse_peaks(names, path), parse_peaks(vocabulary, "the vocabulary of peaks")
    refuse_other_names([peaks, given])
    number = {name: place for place, name in enumerate(given.chromosomes)}
    known = np.array([number.get(name, -1) for name in peaks.chromosomes], dtype=np.int64)
    chromosome = known[peaks.chromosome] if len(peaks) else peaks.chromosome.astype(np.int64)
    order = np.lexsort((given.ends, given.starts, given.chromosome))
    limits = np.searchsorted(given.chromosome[order], np.arange(len(given.chromosomes) + 1))
    kernel = _same if how == "exact" else _longest_overlap
    return kernel(
        chromosome, peaks.starts, peaks.ends, limits, given.starts[order], given.ends[order], order
    )


@compiled
def _same(chromosome, starts, ends, limits, given_starts, given_ends, order):
    place = np.full(len(starts), -1, dtype=np.int32)
    for peak in range(len(starts)):
        if chromosome[peak] < 0:
            continue
        first, last = limits[chromosome[peak]], limits[chromosome[peak] + 1]
        at = first + np.searchsorted(given_starts[first:last], starts[peak])
        while at < last and given_starts[at] == starts[peak]:
            if given_ends[at] == ends[peak] and (place[peak] < 0 or order[at] < place[peak]):
                place[peak] = order[at]
            at += 1
    return place


@compiled
def _longest_overlap(chromosome, starts, ends, limits, given_starts, given_ends, order):
    place = np.full(len(starts), -1, dtype=np.int32)
    # The furthest end of all intervals of a chromosome up to each: where it is left of a peak,
    # nothing further left reaches it.
    reach = given_ends.copy()
    for number in range(len(limits) - 1):
        for at in range(limits[number] + 1, limits[number + 1]):
            reach[at] = max(reach[at], reach[at - 1])
    for peak in range(len(starts)):
        if chromosome[peak] < 0:
            continue
        first, last = limits[chromosome[peak]], limits[chromosome[peak] + 1]
        at = first + np.searchsorted(given_starts[first:last], ends[peak]) - 1
        longest, length = 0, 0
        while at >= first and reach[at] > starts[peak]:
            shared = min(ends[peak], given_ends[at]) - max(starts[peak], given_starts[at])
            its = given_ends[at] - given_starts[at]
            is_before = its < length or (its == length and order[at] < place[peak])
            if shared > longest or (shared == longest > 0 and is_before):
                longest, length, place[peak] = shared, its, order[at]
            at -= 1
    return place


def refuse_other_names(files: list[Peaks]) -> None:
    """Refuse chr1 in one file and 1 in another: nothing would be shared, without a word."""
    every = dict.fromkeys(frozenset(peaks.chromosomes) for peaks in files)
    for one in every:
        for other in every:
            if one and other and not one & other and {f"chr{name}" for name in one} & other:
                raise InputError(
                    f"Peaks are on {listed(sorted(one, key=natural), 3)} in one file and on "
                    f"{listed(sorted(other, key=natural), 3)} in another; call chromosomes alike."
                )


def _joined(files: list[Peaks]) -> Peaks:
    """All peaks of some files, their chromosomes numbered together."""
    chromosomes = sorted({name for peaks in files for name in peaks.chromosomes}, key=natural)
    number = {name: place for place, name in enumerate(chromosomes)}
    codes = [
        np.array([number[name] for name in peaks.chromosomes], dtype=np.int32)[peaks.chromosome]
        for peaks in files
    ]
    starts, ends = (
        np.concatenate([getattr(peaks, key) for peaks in files]) for key in ("starts", "ends")
    )
    return Peaks(chromosomes, np.concatenate(codes), starts, ends)
