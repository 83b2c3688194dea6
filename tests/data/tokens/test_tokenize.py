"""What holds of every tokenizer."""

import numpy as np
import pytest

from vcpipe.config.fitting import Fit
from vcpipe.config.tokens import Masking, Tokenizer
from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.gene_embedding import check_embedding_dim
from vcpipe.data.tokens.masking import hidden_genes
from vcpipe.data.tokens.packing import padded, specials
from vcpipe.data.tokens.tokenize import TOKENIZERS, tokenize
from vcpipe.data.tokens.truncation import measured_by
from vcpipe.errors import InputError

SETTINGS = [
    {"strategy": "rank_value"},
    {"strategy": "rank_value", "truncation": "random"},
    {"strategy": "rank_value", "rank_normalization": "gene_median"},
    {"strategy": "rank_value", "rank_normalization": "gene_median", "truncation": "first"},
    {"strategy": "binned_expression"},
    {"strategy": "binned_expression", "binning_ties": "random"},
    {"strategy": "binned_expression", "binning_method": "quantile", "truncation": "first"},
    {"strategy": "binned_expression", "binning_method": "uniform", "truncation": "random"},
    {"strategy": "binned_expression", "binning_method": "binary"},
    {"strategy": "continuous_projection"},
    {"strategy": "continuous_projection", "prepend_cls": False},
    {"strategy": "gene_embedding"},
]


@pytest.fixture(params=SETTINGS, ids=lambda its: "-".join(map(str, its.values())))
def config(request) -> Tokenizer:
    return Tokenizer(**request.param, max_genes=50, include_zero_genes=0.2)


@pytest.fixture
def measured(rows):
    """Two datasets; the second did not measure every third gene that its cells lack."""
    of_first = np.arange(3, 203)
    dataset = np.arange(len(rows)) % 2
    detected = np.zeros(203, dtype=bool)
    for cell in np.flatnonzero(dataset):
        detected[rows.ids[rows.starts[cell] : rows.starts[cell + 1]]] = True
    of_second = of_first[detected[3:] | (of_first % 3 > 0)]
    return measured_by([of_first, of_second], dataset)


def only(measured, cells):
    return measured._replace(dataset_B=measured.dataset_B[cells])


def test_tokens_do_not_depend_on_the_cells_beside_them(
    rows, pick, special, fitted, config, measured, cells_of
):
    together = cells_of(tokenize(rows, special, config, fitted, seed=1, epoch=2, measured=measured))
    assert len(together) == len(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = tokenize(
        *(pick(rows, order), special, config, fitted),
        **{"seed": 1, "epoch": 2, "measured": only(measured, order)},
    )
    assert cells_of(shuffled) == together
    for cell in range(len(rows)):
        alone = tokenize(
            *(pick(rows, [cell]), special, config, fitted),
            **{"seed": 1, "epoch": 2, "measured": only(measured, [cell])},
        )
        key = int(rows.keys[cell])
        assert cells_of(alone)[key] == together[key]


def test_the_same_numbers_draw_the_same_and_others_draw_anew(
    rows, special, fitted, config, measured
):
    def genes(seed, epoch):
        return tokenize(rows, special, config, fitted, seed=seed, epoch=epoch, measured=measured)

    assert np.array_equal(genes(1, 2).genes, genes(1, 2).genes)
    assert not np.array_equal(genes(1, 2).genes, genes(1, 3).genes)
    assert not np.array_equal(genes(1, 2).genes, genes(2, 2).genes)


def test_a_cell_is_cls_and_each_gene_once_and_never_too_long(
    rows, special, fitted, config, measured, cells_of
):
    tokens = tokenize(rows, special, config, fitted, seed=1, epoch=2, measured=measured)
    for cell, found in enumerate(cells_of(tokens).values()):
        genes = [gene for gene, _ in found]
        detected = set(rows.ids[rows.starts[cell] : rows.starts[cell + 1]])
        assert genes[: config.prepend_cls] == [special.cls_id] * config.prepend_cls
        genes = genes[config.prepend_cls :]
        assert len(set(genes)) == len(genes)
        assert min(genes) >= 3
        absent = [gene for gene in genes if gene not in detected]
        assert len(absent) == int((50 - config.prepend_cls) * 0.2)
        assert all(value == 0 for gene, value in found if gene in absent)
        assert len(found) == (50 if detected else 1 + len(absent) - (not config.prepend_cls))
        start, stop = measured.starts[cell % 2], measured.starts[cell % 2 + 1]
        assert set(absent) <= set(measured.ids[start:stop])
        if config.strategy != "rank_value":
            assert genes == sorted(genes)


def test_an_empty_cell_is_cls_alone(rows, pick, special, fitted, cells_of):
    for strategy in TOKENIZERS:
        config = Tokenizer(strategy=strategy, max_genes=50)
        tokens = tokenize(pick(rows, [19]), special, config, fitted, seed=0, epoch=0)
        assert list(cells_of(tokens).values()) == [[(special.cls_id, 0.0)]]


def test_continuous_values_are_logarithms_of_counts_per_target_sum(rows, special):
    config = Tokenizer(strategy="continuous_projection", prepend_cls=False)
    totals = np.repeat(rows.totals, np.diff(rows.starts)).astype(float)
    scaled = rows.counts * (1e4 / totals)
    for fit, expected in [
        (Fit(), np.log1p(scaled)),
        (Fit(log1p=False), scaled),
        (Fit(normalize=None), np.log1p(rows.counts)),
        (Fit(normalize=None, log1p=False), rows.counts),
    ]:
        tokens = tokenize(rows, special, config, Fitted(fit), seed=0, epoch=0)
        assert np.array_equal(tokens.genes, rows.ids)
        np.testing.assert_allclose(tokens.values, expected, rtol=1e-6)


def test_gene_embedding_has_the_tokens_of_continuous_projection():
    assert TOKENIZERS["gene_embedding"] is TOKENIZERS["continuous_projection"]


def test_a_file_of_vectors_must_have_the_configured_width():
    check_embedding_dim(None, 200, "vectors.npy")
    check_embedding_dim(200, 200, "vectors.npy")
    with pytest.raises(InputError, match=r"embedding_dim is 100 and vectors.npy has .* 200"):
        check_embedding_dim(100, 200, "vectors.npy")


def test_padding_fills_up_to_the_longest_cell(rows, special, fitted):
    config = Tokenizer(strategy="binned_expression", max_genes=120)
    tokens = tokenize(rows, special, config, fitted, seed=0, epoch=0)
    batch = padded(tokens, special.pad_id, special.pad_value)
    lengths = np.diff(tokens.starts)
    assert len(set(lengths)) > 2
    assert batch["genes"].shape == (20, lengths.max())
    assert (batch["genes"].dtype, batch["values"].dtype) == (np.int32, np.float32)
    assert np.array_equal(batch["real"].sum(axis=1), lengths)
    assert np.array_equal(batch["genes"][batch["real"]], tokens.genes)
    assert np.array_equal(batch["values"][batch["real"]], tokens.values)
    assert (batch["genes"][~batch["real"]] == special.pad_id).all()
    assert (batch["values"][~batch["real"]] == special.pad_value).all()


def test_special_tokens_are_looked_up_by_name():
    ids = {"A": 0, "<pad>": 1, "<cls>": 2, "<mask>": 3}
    found = specials(ids, SpecialTokens())
    assert (found.cls_id, found.pad_id, found.mask_id) == (2, 1, 3)
    assert (found.cls_value, found.pad_value, found.mask_value) == (0.0, -2.0, -1.0)
    with pytest.raises(InputError, match="lacks <cls>"):
        specials({"<pad>": 1, "<mask>": 2}, SpecialTokens())


def test_without_a_token_for_hidden_genes_only_values_can_be_hidden(rows, fitted):
    special = specials({"A": 0, "<pad>": 1, "<cls>": 2}, SpecialTokens())
    tokens = tokenize(rows, special, Tokenizer(), fitted, seed=0, epoch=0)
    assert special.mask_id not in tokens.genes
    with pytest.raises(InputError, match=r"no token for hidden genes \(special_tokens\.mask\)"):
        hidden_genes(Masking(), special, np.array([0]))
