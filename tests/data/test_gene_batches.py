import numpy as np
import pytest

from tests.prepared import prepare
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.gene_batches import NextGeneBatches, ShownGeneBatches, shown_places
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
    genes, following = batch["genes"].ravel(), batch["before"] + 1
    assert len(batch["before"]) == batch["real"].sum() - len(batch["real"])
    assert batch["real"].ravel()[following].all()
    expected = np.concatenate(
        [row[1 : real.sum()] for row, real in zip(batch["genes"], batch["real"], strict=True)]
    )
    assert np.array_equal(genes[following], expected)


def test_an_encoder_is_shown_what_is_not_hidden_in_its_order(make):
    batch = make(ShownGeneBatches, hidden_values([0.5]))
    for row, (shown, is_shown) in enumerate(zip(batch["shown"], batch["is_shown"], strict=True)):
        expected = np.flatnonzero(batch["real"][row] & ~batch["chosen"][row])
        assert np.array_equal(shown[is_shown], expected)
        assert shown[0] == 0
    assert batch["is_shown"].any(axis=0).all()


def test_cells_of_which_all_or_nothing_is_shown_keep_their_rows():
    places, is_shown = shown_places(np.array([[False, False], [True, True], [False, True]]))
    assert places.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert is_shown.tolist() == [[False, False], [True, True], [True, False]]
    assert shown_places(np.zeros((2, 0), dtype=bool))[0].shape == (2, 0)
