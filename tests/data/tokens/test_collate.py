"""Tokens of cells where they lie: in narrow arrays, in any order, packed or padded."""

import itertools

import numpy as np
import pytest

from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Tokenizer
from vcpipe.data.cell_store.cells import Cells, cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.tokens.collate import collate
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.tokenize import recipe_of

HALF = hidden_values([0.5])
DRAW = Draw(3, 1)


@pytest.fixture(params=["rank_value", "binned_expression", "continuous_projection"])
def recipe(request):
    return recipe_of(Tokenizer(strategy=request.param, max_genes=90), Fitted(Fit()))


def parts(starts, *arrays):
    return [[its[a:b].tolist() for its in arrays] for a, b in itertools.pairwise(starts)]


def test_cells_may_lie_anywhere_in_arrays_of_narrow_numbers(rows, special, recipe):
    """As the blocks of a buffer do, whose first cells are no part of the batch."""
    lengths = np.diff(rows.starts).astype(np.uint32)
    gap = np.full(7, 60000, np.uint16)
    held = Cells(
        rows.starts[:-1] + 7,
        lengths,
        np.concatenate([gap, rows.ids.astype(np.uint16)]),
        np.concatenate([gap, rows.counts.astype(np.uint16)]),
        rows.totals,
        rows.keys,
    )
    chosen = np.array([3, 19, 0, 3])
    some = collate(held, chosen, rows.keys[chosen], recipe, special, DRAW, hiding=HALF)
    every = np.arange(len(rows))
    all_of_them = collate(cells_of(rows), every, rows.keys, recipe, special, DRAW, hiding=HALF)
    of_cells = parts(all_of_them.starts, all_of_them.genes, all_of_them.values, all_of_them.chosen)
    found = parts(some.starts, some.genes, some.values, some.chosen)
    assert found == [of_cells[cell] for cell in chosen]
    assert len(some.target_values) == some.chosen.sum() > 0


def test_padded_arrays_hold_what_packed_ones_do_and_padding_behind(rows, special, recipe):
    every = np.arange(len(rows))
    given = cells_of(rows), every, rows.keys, recipe, special, DRAW
    packed = collate(*given, hiding=HALF)
    padded = collate(*given, hiding=HALF, is_padded=True)
    batch = padded.padded()
    assert batch["real"].shape == (20, np.diff(packed.starts).max())
    assert np.array_equal(batch["real"].sum(axis=1), np.diff(packed.starts))
    for name in ("genes", "values", "chosen"):
        assert np.array_equal(batch[name][batch["real"]], getattr(packed, name))
    assert (batch["genes"][~batch["real"]] == special.pad_id).all()
    assert (batch["values"][~batch["real"]] == special.pad_value).all()
    assert not batch["chosen"][~batch["real"]].any()
    for name in ("target_genes", "target_values"):
        assert np.array_equal(batch[name], getattr(packed, name))


def test_arrays_lie_where_they_are_asked_for(rows, special, recipe):
    asked = []

    def empty(shape, dtype):
        asked.append(np.empty(shape, dtype))
        return asked[-1]

    every = np.arange(len(rows))
    made = collate(
        *(cells_of(rows), every, rows.keys, recipe, special, DRAW),
        hiding=HALF,
        is_padded=True,
        empty=empty,
    )
    batch = made.padded(empty)
    assert {id(its) for its in batch.values()} == {id(its) for its in asked}


def test_no_cells_give_no_tokens(rows, special, recipe):
    none = np.zeros(0, dtype=np.int64)
    made = collate(cells_of(rows), none, rows.keys[:0], recipe, special, DRAW, is_padded=True)
    assert made.padded()["genes"].shape == (0, 0)
