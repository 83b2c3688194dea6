import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from vcpipe.config.tokens import Masking, Tokenizer
from vcpipe.data.tokens.masking import mask_genes, mask_values, padded_masked
from vcpipe.data.tokens.packing import Tokens
from vcpipe.data.tokens.tokenize import tokenize

GENES = np.arange(3, 203)


@pytest.fixture
def tokens(rows, special, fitted) -> Tokens:
    config = Tokenizer(strategy="binned_expression", max_genes=100)
    return tokenize(rows, special, config, fitted, seed=0, epoch=0)


def bert(tokens, special, seed=1, epoch=2, **settings):
    return mask_genes(tokens, Masking(**settings), special, GENES, seed=seed, epoch=epoch)


@pytest.mark.parametrize("ratio", [0.001, 0.15, 0.5, 1.0])
def test_the_exact_share_of_each_cell_is_chosen_but_never_cls(tokens, special, ratio):
    chosen = bert(tokens, special, mask_ratio=ratio).chosen
    for cell in range(len(tokens)):
        its = chosen[tokens.starts[cell] : tokens.starts[cell + 1]]
        num_genes = len(its) - 1
        assert its.sum() == (max(1, round(num_genes * ratio)) if num_genes else 0)
        assert not its[0]


def test_targets_are_what_the_chosen_tokens_were(tokens, special):
    masked = bert(tokens, special)
    assert np.array_equal(masked.target_genes, tokens.genes[masked.chosen])
    assert np.array_equal(masked.target_values, tokens.values[masked.chosen])
    assert np.array_equal(masked.shown.genes[~masked.chosen], tokens.genes[~masked.chosen])
    assert np.array_equal(masked.shown.values[~masked.chosen], tokens.values[~masked.chosen])


def test_chosen_tokens_are_hidden_replaced_or_kept_in_the_asked_shares(tokens, special):
    shown, values, true = [], [], []
    for epoch in range(40):
        masked = bert(tokens, special, epoch=epoch, mask_ratio=0.5)
        shown.append(masked.shown.genes[masked.chosen])
        values.append(masked.shown.values[masked.chosen])
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
def test_what_is_shown_does_not_depend_on_what_is_hidden(tokens, special, kind):
    def mask(tokens):
        if kind == "genes":
            return bert(tokens, special, mask_ratio=0.4, keep_ratio=0.0)
        return mask_values(tokens, [0.4], special, seed=1, epoch=2)

    masked = mask(tokens)
    generator = np.random.default_rng(3)
    genes, values = tokens.genes.copy(), tokens.values.copy()
    values[masked.chosen] = generator.random(masked.chosen.sum())
    if kind == "genes":
        genes[masked.chosen] = generator.choice(GENES, masked.chosen.sum())
    other = mask(dataclasses.replace(tokens, genes=genes, values=values))
    assert np.array_equal(other.chosen, masked.chosen)
    assert np.array_equal(other.shown.genes, masked.shown.genes)
    assert np.array_equal(other.shown.values, masked.shown.values)
    assert not np.array_equal(other.target_values, masked.target_values)


def test_hidden_values_leave_genes_as_they_are(tokens, special):
    masked = mask_values(tokens, [0.25, 0.75], special, seed=0, epoch=0)
    assert np.array_equal(masked.shown.genes, tokens.genes)
    assert (masked.shown.values[masked.chosen] == special.mask_value).all()
    assert np.array_equal(masked.shown.values[~masked.chosen], tokens.values[~masked.chosen])
    sizes = np.diff(tokens.starts)[:-1] - 1
    counted = np.add.reduceat(masked.chosen, tokens.starts[:-2]).astype(int)
    is_few = [num == round(size * 0.25) for num, size in zip(counted, sizes, strict=True)]
    is_many = [num == round(size * 0.75) for num, size in zip(counted, sizes, strict=True)]
    assert (np.array(is_few) ^ np.array(is_many)).all()
    assert any(is_few)
    assert any(is_many)


def test_masks_do_not_depend_on_the_cells_beside_them(rows, pick, special, fitted, cells_of):
    config = Tokenizer(strategy="rank_value", max_genes=100)

    def shown(rows):
        tokens = tokenize(rows, special, config, fitted, seed=0, epoch=0)
        return cells_of(bert(tokens, special).shown)

    together = shown(rows)
    assert shown(pick(rows, [7, 3])) == {
        int(rows.keys[cell]): together[int(rows.keys[cell])] for cell in (7, 3)
    }


def test_another_epoch_hides_other_tokens(tokens, special):
    first, again = bert(tokens, special), bert(tokens, special)
    assert np.array_equal(first.chosen, again.chosen)
    assert not np.array_equal(first.chosen, bert(tokens, special, epoch=3).chosen)
    assert not np.array_equal(first.chosen, bert(tokens, special, seed=2).chosen)


def test_padded_targets_stand_in_the_order_of_the_chosen_places(tokens, special):
    masked = bert(tokens, special, keep_ratio=1.0, random_replace_ratio=0.0)
    batch = padded_masked(masked, special)
    assert np.array_equal(batch["genes"][batch["chosen"]], batch["target_genes"])
    assert np.array_equal(batch["values"][batch["chosen"]], batch["target_values"])
    assert not (batch["chosen"] & ~batch["real"]).any()


def test_cells_without_cls_can_lose_their_first_gene(rows, special, fitted):
    config = Tokenizer(strategy="rank_value", max_genes=100, prepend_cls=False)
    tokens = tokenize(rows, special, config, fitted, seed=0, epoch=0)
    chosen = bert(tokens, special, mask_ratio=1.0).chosen
    assert chosen.all()


def test_replaced_and_kept_cannot_be_more_than_all():
    with pytest.raises(ValidationError, match="more than 1 together"):
        Masking(random_replace_ratio=0.6, keep_ratio=0.5)
