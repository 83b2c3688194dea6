"""Genes whose expression a cell is asked for: some detected and some undetected, or all measured.

A gene that the cell's dataset did not measure is never asked for, because nobody knows its value.
What a dataset measured is what all of its files did; a gene that a cell shows beyond that was
measured in its file, and may be asked for as a detected one.
"""

# B cells

from collections.abc import Mapping

import numpy as np

from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_keys import below, stream
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.sparse_rows import compiled
from vcpipe.data.tokens.packing import starts_of
from vcpipe.data.tokens.truncation import Measured
from vcpipe.errors import InputError

# `purpose` of cell_keys.stream.
ASKED_DETECTED, ASKED_UNDETECTED = 202, 203


def genes_to_ask(
    measured: Mapping[str, np.ndarray], config: Tokenizer, hvgs: np.ndarray | None
) -> list[np.ndarray]:
    """The ids that each dataset may be asked for, of those that it measured; for `measured_by`."""
    if config.rna_sampling != "hvg":
        asked = {name: np.unique(ids) for name, ids in measured.items()}
    elif hvgs is None:
        raise InputError(
            "rna_sampling is hvg, but no highly variable genes were chosen; set hvg_selection, or "
            "rna_sampling: balanced or full."
        )
    else:
        asked = {name: np.intersect1d(ids, hvgs) for name, ids in measured.items()}
    for name, ids in asked.items():
        if not len(ids):
            raise InputError(
                f"dataset {name} measured none of the genes that rna_sampling "
                f"{config.rna_sampling} asks for; leave it out, or set another rna_sampling."
            )
    return list(asked.values())


def balanced_genes(
    rna: Rows,
    values: np.ndarray,
    measured: Measured,
    num_genes: int,
    config: Tokenizer,
    draw: Draw,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, ids and values of some detected and some undetected genes of every cell."""
    assert len(values) == len(rna.ids)
    assert max(rna.ids.max(initial=0), measured.ids.max(initial=0)) < num_genes
    lists = measured.dataset_B, measured.starts, measured.ids
    undetected = _num_undetected(rna.starts, rna.ids, *lists, num_genes)
    numbers = balanced_numbers(
        np.diff(rna.starts),
        undetected,
        config.rna_max_len,
        config.rna_nonzero_fraction,
    )
    starts = starts_of(np.add(*numbers))
    # The loop writes a gene before it knows whether it is asked for: one place more.
    genes, targets = np.empty(starts[-1] + 1, np.int32), np.empty(starts[-1], values.dtype)
    _ask_some(
        *(rna.starts, rna.ids, values, rna.keys, *lists, undetected),
        *(*numbers, draw.seed, draw.epoch, num_genes, starts, genes, targets),
    )
    return starts, genes[:-1], targets


def all_genes(
    rna: Rows, values: np.ndarray, measured: Measured
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, ids and values of all genes that the cells' datasets may be asked for."""
    starts = starts_of(np.diff(measured.starts)[measured.dataset_B])
    genes, targets = np.empty(starts[-1], np.int32), np.empty(starts[-1], values.dtype)
    assert len(values) == len(rna.ids)
    _ask_all(
        *(rna.starts, rna.ids, values, measured.dataset_B, measured.starts, measured.ids),
        *(starts, genes, targets),
    )
    return starts, genes, targets


def balanced_numbers(
    detected: np.ndarray, undetected: np.ndarray, max_len: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """How many detected and undetected genes to ask for, max_len at most.

    Where too few genes are undetected, all of them are taken, and the detected ones stay as many.

    >>> balanced_numbers(np.array([3, 90, 7]), np.array([47, 10, 1]), 20, 0.5)
    (array([ 3, 10,  7]), array([ 3, 10,  1]))
    """
    # A product such as 100 × 0.29 is a little below the whole number that it means.
    little = 1e-6
    wanted = np.minimum(detected, int(max_len * share + little))
    others = np.floor(wanted * ((1 - share) / share) + little).astype(np.int64)
    return wanted, np.minimum(others, undetected)


@compiled
def _num_undetected(starts, ids, datasets, list_starts, listed_genes, num_genes):
    """How many genes of the list of its dataset each cell does not show."""
    undetected = np.empty(len(datasets), np.int64)
    is_listed, present = np.zeros(num_genes, np.uint8), -1
    for cell in range(len(datasets)):
        measured = listed_genes[list_starts[datasets[cell]] : list_starts[datasets[cell] + 1]]
        if datasets[cell] != present:
            present = datasets[cell]
            is_listed[:] = 0
            for gene in measured:
                is_listed[gene] = 1
        undetected[cell] = len(measured)
        for gene in ids[starts[cell] : starts[cell + 1]]:
            undetected[cell] -= is_listed[gene]
    return undetected


@compiled
def mark_some(marks, ids, num_free, wanted, state) -> int:
    """Draw `wanted` of the ids whose mark is 0, `num_free` in all; return the mark of the rest.

    The smaller part is drawn and marked 1, be it the wanted ids or those that are left out.
    """
    left = min(wanted, num_free - wanted)
    place = 0
    while left > 0:
        at = np.uint64(ids[np.uint64(below(state, place, len(ids)))])
        place += 1
        # No branch, because none could be foreseen.
        is_free = marks[at] == 0
        marks[at] |= np.uint8(is_free)
        left -= is_free
    return 0 if 2 * wanted <= num_free else 1


# Marks beside 0 and 1, of genes that are not drawn because they are detected or not measured.
NOT_DRAWN = 2


@compiled
def _ask_some(
    starts,
    ids,
    values,
    keys,
    datasets,
    list_starts,
    listed_genes,
    undetected,
    wanted,
    wanted_undetected,
    seed,
    epoch,
    num_genes,
    out_starts,
    out_genes,
    out_values,
) -> None:
    """Take so many detected genes, and so many of the undetected ones of the dataset's list."""
    present = -1
    marks, is_unmeasured = np.empty(num_genes, np.uint8), np.empty(num_genes, np.uint8)
    value_of = np.zeros(num_genes, out_values.dtype)
    of_detected = np.zeros(num_genes, np.uint8)
    for cell in range(len(keys)):
        measured = listed_genes[list_starts[datasets[cell]] : list_starts[datasets[cell] + 1]]
        if datasets[cell] != present:
            present = datasets[cell]
            is_unmeasured[:] = 1
            for gene in measured:
                is_unmeasured[gene] = 0
        genes = ids[starts[cell] : starts[cell + 1]]
        state = stream(seed, epoch, ASKED_DETECTED, keys[cell])
        rest_of_detected = mark_some(of_detected, genes, len(genes), wanted[cell], state)
        num_free = undetected[cell]
        # The mark of undetected genes that are not asked for, as mark_some will return it.
        rest = np.uint8(2 * wanted_undetected[cell] > num_free)
        for gene in range(num_genes):
            marks[gene] = is_unmeasured[gene] * (NOT_DRAWN | rest)
        for at in range(len(genes)):
            gene = np.uint64(genes[at])
            is_asked = of_detected[gene] ^ rest_of_detected
            marks[gene] = NOT_DRAWN | is_asked ^ rest
            value_of[gene] = values[starts[cell] + at]
        state = stream(seed, epoch, ASKED_UNDETECTED, keys[cell])
        mark_some(marks, measured, num_free, wanted_undetected[cell], state)
        # Without a branch, too: a gene that is not asked for is written over by the next.
        place = np.uint64(out_starts[cell])
        for gene in range(num_genes):
            out_genes[place] = gene
            place += np.uint64((marks[gene] ^ rest) & 1)
        for at in range(out_starts[cell], out_starts[cell + 1]):
            out_values[at] = value_of[np.uint64(out_genes[at])]
        for gene in genes:
            value_of[np.uint64(gene)] = 0
            of_detected[np.uint64(gene)] = 0


@compiled
def _ask_all(
    starts, ids, values, datasets, list_starts, listed_genes, out_starts, out_genes, out_values
) -> None:
    for cell in range(len(starts) - 1):
        entry, end, place = starts[cell], starts[cell + 1], out_starts[cell]
        dataset = datasets[cell]
        for gene in listed_genes[list_starts[dataset] : list_starts[dataset + 1]]:
            while entry < end and ids[entry] < gene:
                entry += 1
            out_genes[place] = gene
            out_values[place] = values[entry] if entry < end and ids[entry] == gene else 0
            place += 1


@compiled
def _pad(starts, packed, fill, out) -> None:
    for cell in range(len(out)):
        length = starts[cell + 1] - starts[cell]
        out[cell, :length] = packed[starts[cell] : starts[cell + 1]]
        out[cell, length:] = fill
