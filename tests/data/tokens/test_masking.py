import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Masking, Tokenizer
from vcpipe.data.tokens.collate import Collated
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import hidden_genes, hidden_values
from vcpipe.data.tokens.packing import Tokens
from vcpipe.data.tokens.tokenize import masked_tokens, tokenize

GENES = np.arange(3, 203)
CONFIG = Tokenizer(strategy="binned_expression", max_genes=100)


@pytest.fixture
def tokens(rows, special, fitted) -> Tokens:
    return tokenize(rows, special, CONFIG, fitted, seed=1, epoch=2)


@pytest.fixture
def bert(rows, special, fitted):
    def masked(seed=1, epoch=2, rows=rows, config=CONFIG, **settings) -> Collated:
        hiding = hidden_genes(Masking(**settings), special, GENES)
        return masked_tokens(rows, special, config, fitted, hiding, seed=seed, epoch=epoch)

    return masked


@pytest.mark.parametrize("ratio", [0.001, 0.15, 0.5, 1.0])
def test_the_exact_share_of_each_cell_is_chosen_but_never_cls(tokens, bert, ratio):
    chosen = bert(mask_ratio=ratio).chosen
    for cell in range(len(tokens)):
        its = chosen[tokens.starts[cell] : tokens.starts[cell + 1]]
        num_genes = len(its) - 1
        assert its.sum() == (max(1, round(num_genes * ratio)) if num_genes else 0)
        assert not its[0]


def test_targets_are_what_the_chosen_tokens_were(tokens, bert):
    masked = bert()
    assert np.array_equal(masked.target_genes, tokens.genes[masked.chosen])
    assert np.array_equal(masked.target_values, tokens.values[masked.chosen])
    assert np.array_equal(masked.genes[~masked.chosen], tokens.genes[~masked.chosen])
    assert np.array_equal(masked.values[~masked.chosen], tokens.values[~masked.chosen])


def test_chosen_tokens_are_hidden_replaced_or_kept_in_the_asked_shares(bert, special):
    shown, values, true = [], [], []
    for epoch in range(40):
        masked = bert(epoch=epoch, mask_ratio=0.5)
        shown.append(masked.genes[masked.chosen])
        values.append(masked.values[masked.chosen])
        true.append(np.stack([masked.target_genes, masked.target_values]))
    shown, values, true = (np.concatenate(x, axis=-1) for x in (shown, values, true))
    is_kept = values != special.mask_value
    assert (shown[is_kept] == true[0][is_kept]).all()
    assert (values[is_kept] == true[1][is_kept]).all()
    is_hidden = shown == special.mask_id
    np.testing.assert_allclose([is_hidden.mean(), is_kept.mean()], [0.8, 0.1], atol=0.01)
    replaced = shown[~is_hidden & ~is_kept]
    assert set(replaced) == set(GENES)


@pytest.mark.parametrize("kind", ["genes", "values"])
def test_what_is_shown_does_not_depend_on_what_is_hidden(rows, special, kind):
    """Values of continuous_projection are a gene's own, so that other counts change no other."""
    config, fitted = Tokenizer(strategy="continuous_projection"), Fitted(Fit())
    rows = dataclasses.replace(rows, ids=rows.ids * 2)
    hiding = hidden_values([0.4])
    if kind == "genes":
        hiding = hidden_genes(Masking(mask_ratio=0.4, keep_ratio=0.0), special, GENES)

    def mask(rows):
        return masked_tokens(rows, special, config, fitted, hiding, seed=1, epoch=2)

    masked = mask(rows)
    hidden = np.delete(masked.chosen, masked.starts[:-1])
    ids, counts = rows.ids + (hidden & (kind == "genes")), rows.counts + 3 * hidden
    changed = dataclasses.replace(rows, ids=ids.astype(np.int32), counts=counts.astype(np.uint32))
    other = mask(changed)
    assert np.array_equal(other.chosen, masked.chosen)
    assert np.array_equal(other.genes, masked.genes)
    assert np.array_equal(other.values, masked.values)
    assert (other.target_values > masked.target_values).all()
    assert np.array_equal(other.target_genes != masked.target_genes, hidden[hidden]) == (
        kind == "genes"
    )


def test_hidden_values_leave_genes_as_they_are(rows, special, fitted, tokens):
    hiding = hidden_values([0.25, 0.75])
    masked = masked_tokens(rows, special, CONFIG, fitted, hiding, seed=1, epoch=2)
    assert np.array_equal(masked.genes, tokens.genes)
    assert (masked.values[masked.chosen] == special.mask_value).all()
    assert np.array_equal(masked.values[~masked.chosen], tokens.values[~masked.chosen])
    sizes = np.diff(tokens.starts)[:-1] - 1
    counted = np.add.reduceat(masked.chosen, tokens.starts[:-2]).astype(int)
    is_few = [num == round(size * 0.25) for num, size in zip(counted, sizes, strict=True)]
    is_many = [num == round(size * 0.75) for num, size in zip(counted, sizes, strict=True)]
    assert (np.array(is_few) ^ np.array(is_many)).all()
    assert any(is_few)
    assert any(is_many)


def test_masks_do_not_depend_on_the_cells_beside_them(rows, pick, bert, cells_of):
    config = Tokenizer(strategy="rank_value", max_genes=100)
    together = cells_of(bert(config=config))
    assert cells_of(bert(rows=pick(rows, [7, 3]), config=config)) == {
        int(rows.keys[cell]): together[int(rows.keys[cell])] for cell in (7, 3)
    }


def test_another_epoch_hides_other_tokens(bert):
    first, again = bert(), bert()
    assert np.array_equal(first.chosen, again.chosen)
    assert not np.array_equal(first.chosen, bert(epoch=3).chosen)
    assert not np.array_equal(first.chosen, bert(seed=2).chosen)


def test_cells_without_cls_can_lose_their_first_gene(bert):
    config = Tokenizer(strategy="rank_value", max_genes=100, prepend_cls=False)
    assert bert(config=config, mask_ratio=1.0).chosen.all()


def test_replaced_and_kept_cannot_be_more_than_all():
    with pytest.raises(ValidationError, match="more than 1 together"):
        Masking(random_replace_ratio=0.6, keep_ratio=0.5)
