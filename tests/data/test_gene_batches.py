from itertools import pairwise

import numpy as np
import pytest

from tests.prepared import prepare
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.gene_batches import (
    NextGeneBatches,
    ShownGeneBatches,
    having_next,
    shown_tokens,
)
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.masking import NOTHING, hidden_values
from vcpipe.data.tokens.packing import specials


@pytest.fixture
def make(screen, tmp_path):
    store, names, record = prepare(tmp_path / "corpus", screen)
    special = specials(names.vocabularies.genes["human"].ids, names.vocabularies.special_tokens)
    config = Pretrain(corpus="c", tokenizer={"max_genes": 64})

    def batch(kind, hiding) -> dict:
        batches = kind(special, fitted_of(record, "human"), config, hiding, StoreReader(store))
        return batches.batch(batches.reader.read(np.arange(8)), np.arange(8), BatchDraw(0, 0))

    return batch


def test_every_gene_but_the_first_token_follows_another(make):
    batch = make(NextGeneBatches, NOTHING)
    genes, following = batch["genes"].ravel()[batch["places"]], batch["before"] + 1
    assert len(batch["before"]) == batch["real"].sum() - len(batch["real"])
    expected = np.concatenate(
        [row[1 : real.sum()] for row, real in zip(batch["genes"], batch["real"], strict=True)]
    )
    assert np.array_equal(genes[following], expected)


def test_an_encoder_is_shown_what_is_not_hidden_in_its_order(make):
    batch = make(ShownGeneBatches, hidden_values([0.5]))
    starts = batch["shown_starts"]
    for row, (first, last) in enumerate(pairwise(starts)):
        places = batch["places"][batch["shown"][first:last]] - row * batch["genes"].shape[1]
        expected = np.flatnonzero(batch["real"][row] & ~batch["chosen"][row])
        assert np.array_equal(places, expected)
    assert batch["shown_starts"].dtype == np.int32


def test_cells_of_which_all_or_nothing_is_shown_keep_their_rows():
    shown, starts = shown_tokens(np.array([0, 2, 4, 4, 6]), np.array([0, 1, 4]))
    assert shown.tolist() == [2, 3, 5]
    assert starts.tolist() == [0, 0, 2, 2, 3]


def test_a_cell_without_genes_has_no_next_one():
    assert having_next(np.array([0, 1, 1, 3])).tolist() == [1]
    assert having_next(np.array([0])).tolist() == []
