import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.memory_source import MemorySource
from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.cell_filters import REASONS, filter_cells, row_sums
from vcpipe.data.cell_sets import TEST, TRAIN, VAL
from vcpipe.data.fitting import fit
from vcpipe.data.training_cells import CellsToFit
from vcpipe.data.value_histogram import RELATIVE_WIDTH
from vcpipe.errors import InputError

NUM_GENES, NUM_PEAKS = 60, 40
RNA = "rna human"
NAMES = {
    RNA: [f"G{i:02d}" for i in range(NUM_GENES)] + ["<cls>", "<pad>"],
    "atac": [f"P{i:02d}" for i in range(NUM_PEAKS)],
}
FITS = [
    Fit(min_cells=20, min_gene_counts=40, min_peak_cells=15),
    Fit(hvg_selection=20, min_cells=5),
    Fit(hvg_selection=20, hvg_flavor="seurat", hvg_only=True),
    Fit(hvg_selection=20, hvg_flavor="cell_ranger", hvg_batch_key=None, log1p=False),
    Fit(normalize=None),
]


def cells_of(dataset, num_cells, seed, missing=0):
    """A source of genes and peaks in an order of its own, and with a gene that is unknown."""
    generator = np.random.default_rng(seed)
    known = generator.permutation(NUM_GENES)[missing:]
    mean_G = np.append(generator.lognormal(-1.0, 1.2, NUM_GENES)[known], 3.0)
    depth_C1 = generator.lognormal(1, 0.8, (num_cells, 1))
    peaks = generator.permutation(NUM_PEAKS)
    counts = {
        "rna": sp.csr_matrix(generator.poisson(mean_G * depth_C1)),
        "atac": sp.csr_matrix(generator.random((num_cells, NUM_PEAKS)) < 0.1 + peaks / 80),
    }
    labels = pd.DataFrame({"batch": pd.Categorical([f"b{i % 2}" for i in range(num_cells)])})
    source = MemorySource(dataset, [f"c{i}" for i in range(num_cells)], counts, labels)
    sets = generator.choice([TRAIN, VAL, TEST], num_cells, p=[0.7, 0.1, 0.2]).astype(np.uint8)
    ids = {"rna": np.append(known, -1).astype(np.int32), "atac": peaks.astype(np.int32)}
    return CellsToFit(source, ids, sets)


def taken(part, rows):
    return CellsToFit(part.source.taken(rows), part.feature_ids, part.sets[rows])


@pytest.fixture
def parts():
    return [cells_of("a", 300, 1), cells_of("b", 200, 2, missing=5)]


def fitted(parts, config, filters=None):
    return fit(
        parts, NAMES, ["<cls>", "<pad>"], "v1", config, filters or Filters(min_genes=8, min_peaks=2)
    )


@pytest.mark.parametrize("config", FITS)
def test_the_record_does_not_depend_on_the_order_of_cells_files_or_chunks(parts, config, generator):
    expected = fitted(parts, config)
    changed = [
        parts[::-1],
        [taken(part, generator.permutation(len(part.sets))) for part in parts],
        [taken(part, rows) for part in parts for rows in np.array_split(range(200), 3)]
        + [taken(parts[0], np.arange(200, 300))],
    ]
    for other in changed:
        for part in other:
            part.source.chunk = 31
        found = fitted(other, config)
        assert found.record.digest == expected.record.digest
        for name, table in expected.statistics.items():
            pd.testing.assert_frame_equal(found.statistics[name], table)


@pytest.mark.parametrize("config", FITS)
def test_the_record_does_not_depend_on_the_order_of_genes(parts, config, generator):
    expected = fitted(parts, config).record.digest
    for part in parts:
        for name in ("rna", "atac"):
            order = generator.permutation(len(part.feature_ids[name]))
            part.source.counts[name] = part.source.counts[name][:, order].tocsr()
            part.feature_ids[name] = part.feature_ids[name][order]
    assert fitted(parts, config).record.digest == expected


@pytest.mark.parametrize("config", FITS)
def test_cells_of_val_and_test_change_nothing(parts, config, generator):
    expected = fitted(parts, config).record
    for part in parts:
        for name, matrix in part.source.counts.items():
            dense = matrix.toarray()
            held_out = part.sets != TRAIN
            dense[held_out] = generator.poisson(50, dense[held_out].shape)
            part.source.counts[name] = sp.csr_matrix(dense)
        part.source.labels["batch"] = part.source.labels["batch"].cat.add_categories("new")
        part.source.labels.loc[part.sets == TEST, "batch"] = "new"
    assert fitted(parts, config).record == expected
    dense = parts[0].source.counts["rna"].toarray()
    dense[np.flatnonzero(parts[0].sets == TRAIN)[::2]] = 50
    parts[0].source.counts["rna"] = sp.csr_matrix(dense)
    assert fitted(parts, config).record != expected


def reasons(part, filters):
    counts = part.source.counts
    sums = {name: row_sums(counts[name], ids) for name, ids in part.feature_ids.items()}
    return filter_cells(sums, filters)


def dense_training(parts, filters):
    """Counts of the training cells that pass, in the vocabulary's columns, and their totals."""
    rows, totals, peaks = [], [], []
    for part in parts:
        reason = reasons(part, filters)
        kept = (part.sets == TRAIN) & (reason == 0)
        counts = part.source.counts["rna"].toarray()[kept]
        known = part.feature_ids["rna"] >= 0
        dense = np.zeros((len(counts), len(NAMES[RNA])))
        dense[:, part.feature_ids["rna"][known]] = counts[:, known]
        rows.append(dense)
        totals.append(counts.sum(axis=1))
        open_peaks = np.zeros((len(counts), NUM_PEAKS))
        open_peaks[:, part.feature_ids["atac"]] = part.source.counts["atac"].toarray()[kept]
        peaks.append(open_peaks)
    return np.concatenate(rows), np.concatenate(totals), np.concatenate(peaks)


@pytest.mark.parametrize("config", [FITS[0], FITS[4], Fit(target_sum=1e6, num_bin_edges=9)])
def test_fitted_numbers_are_those_of_all_values_at_once(parts, config):
    filters = Filters(min_genes=8, min_peaks=2)
    found = fitted(parts, config, filters)
    counts, totals, peaks = dense_training(parts, filters)
    genes, record = found.statistics[RNA], found.record
    assert record.num_cells == len(counts)
    assert genes["cells"].tolist() == (counts > 0).sum(axis=0).tolist()
    assert genes["counts"].tolist() == counts.sum(axis=0).tolist()
    assert found.statistics["atac"]["cells"].tolist() == (peaks > 0).sum(axis=0).tolist()
    kept = (genes["cells"] >= config.min_cells) & (genes["counts"] >= config.min_gene_counts)
    kept |= genes["name"].isin(["<cls>", "<pad>"])
    assert genes["kept"].tolist() == kept.tolist() == record.is_kept("rna", "human").tolist()
    assert record.dropped[RNA]["min_cells"] == (genes["cells"][:NUM_GENES] < config.min_cells).sum()
    values = counts / totals[:, None] * config.target_sum if config.normalize else counts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = np.nanmedian(np.where(values > 0, values, np.nan), axis=0)
    np.testing.assert_allclose(record.gene_medians("human"), expected, rtol=RELATIVE_WIDTH)
    if config.normalize is None:
        np.testing.assert_array_equal(record.gene_medians("human"), expected)
    values = values[:, kept.to_numpy()]
    values = values[values > 0]
    edges = np.quantile(values, np.linspace(0, 1, config.num_bin_edges))
    found_edges = np.array(record.bin_edges)
    found_edges = np.expm1(found_edges) if config.log1p else found_edges
    np.testing.assert_allclose(found_edges, edges, rtol=RELATIVE_WIDTH)
    assert found_edges[0] <= values.min() * (1 + 1e-9)
    assert found_edges[-1] >= values.max() * (1 - 1e-9)
    assert (np.diff(found_edges) >= 0).all()


@given(seed=st.integers(0, 10**6), number=st.integers(1, 400), depth=st.floats(0.5, 12))
@settings(max_examples=30, deadline=None)
def test_medians_and_edges_are_right_to_a_64th(seed, number, depth):
    generator = np.random.default_rng(seed)
    counts = 1 + generator.poisson(generator.gamma(0.5, np.exp(depth), (number, 3)))
    source = MemorySource("a", [f"c{i}" for i in range(number)], {"rna": sp.csr_matrix(counts)})
    part = CellsToFit(source, {"rna": np.arange(3)}, np.zeros(number, dtype=np.uint8))
    for config in (Fit(log1p=False), Fit(normalize=None, log1p=False)):
        record = fit([part], {RNA: list("abc")}, [], "v", config, Filters()).record
        values = counts / counts.sum(axis=1, keepdims=True) * 1e4 if config.normalize else counts
        np.testing.assert_allclose(
            record.gene_medians("human"), np.median(values, axis=0), rtol=1 / 64
        )
        edges = np.quantile(values, np.linspace(0, 1, 51))
        np.testing.assert_allclose(record.bin_edges, edges, rtol=1 / 64)


def test_cells_are_left_out_by_the_first_reason(parts):
    counts, ids = parts[0].source.counts, parts[0].feature_ids
    filters = Filters(min_genes=32, min_counts=150, min_peaks=12)
    found = [REASONS[number] for number in reasons(parts[0], filters)]
    known = counts["rna"][:, ids["rna"] >= 0].toarray()
    for row, reason in enumerate(found):
        expected = "kept"
        if counts["atac"][row].nnz < 12:
            expected = "min_peaks"
        if known[row].sum() < 150:
            expected = "min_counts"
        if (known[row] > 0).sum() < 32:
            expected = "min_genes"
        assert reason == expected
    assert set(found) == set(REASONS)
    is_train = parts[0].sets == TRAIN
    dropped = fitted(parts[:1], Fit(), filters).record.dropped["cells"]
    assert dropped == {name: np.array(found)[is_train].tolist().count(name) for name in REASONS[1:]}


def test_a_source_of_peaks_alone_is_not_asked_for_genes(parts):
    part = parts[0]
    del part.source.counts["rna"], part.feature_ids["rna"]
    record = fit([part], {"atac": NAMES["atac"]}, [], "v", Fit(min_peak_cells=60), Filters()).record
    assert record.num_cells == (part.sets == TRAIN).sum()
    assert 0 < record.dropped["atac"]["min_peak_cells"] < NUM_PEAKS
    assert (record.bin_edges, record.medians) == ([], {})


def test_only_the_variable_genes_are_kept_where_that_is_set(parts):
    found = fitted(parts, FITS[2])
    names = np.array(NAMES[RNA])[found.record.is_kept("rna", "human")]
    assert sorted([*found.record.hvgs[RNA], "<cls>", "<pad>"]) == sorted(names)
    assert len(names) == 20 + 2
    assert found.record.dropped[RNA]["hvg_only"] == NUM_GENES - 20
    with pytest.raises(ValidationError, match="hvg_only needs hvg_selection"):
        Fit(hvg_only=True)


def test_nothing_to_fit_on_is_an_error(parts):
    with pytest.raises(InputError, match=r"No training cell .* have less than min_genes 99"):
        fitted(parts, Fit(), Filters(min_genes=99))
    for part in parts:
        part.sets[:] = TEST
    with pytest.raises(InputError, match="No training cell is left of 0;"):
        fitted(parts, Fit())


def test_genes_that_all_go_are_an_error(parts):
    with pytest.raises(InputError, match="No gene is left"):
        fitted(parts, Fit(min_cells=10_000))


def test_training_cells_need_the_label_of_their_group(parts):
    labels = parts[1].source.labels
    labels.loc[np.flatnonzero(parts[1].sets != TRAIN), "batch"] = np.nan
    fitted(parts, FITS[1])
    labels.loc[np.flatnonzero(parts[1].sets == TRAIN)[:3], "batch"] = np.nan
    with pytest.raises(InputError, match=r"3 of 200 cells of b \(memory\) have no batch"):
        fitted(parts, FITS[1])


def test_medians_of_real_cells_are_right_to_a_64th():
    file = Path(__file__).parents[2].parent / "shared/data/datlinger_jurkat_cropseq_counts.h5ad"
    if not file.exists():
        pytest.skip(f"{file.name} is not here")
    counts = sp.csr_matrix(ad.read_h5ad(file).X, dtype=np.float64)
    source = MemorySource("d", [f"c{i}" for i in range(counts.shape[0])], {"rna": counts})
    part = CellsToFit(
        source, {"rna": np.arange(counts.shape[1])}, np.zeros(counts.shape[0], dtype=np.uint8)
    )
    names = {RNA: [f"G{i}" for i in range(counts.shape[1])]}
    record = fit([part], names, [], "v", Fit(log1p=False), Filters()).record
    kept = np.asarray(counts.sum(axis=1)).ravel() > 0
    values = sp.csc_matrix(sp.diags_array(1e4 / counts[kept].sum(axis=1).A1) @ counts[kept])
    for gene in range(0, counts.shape[1], 10):
        its = values.data[values.indptr[gene] : values.indptr[gene + 1]]
        if len(its):
            assert record.gene_medians("human")[gene] == pytest.approx(np.median(its), rel=1 / 64)
        else:
            assert np.isnan(record.gene_medians("human")[gene])


def test_genes_of_each_species_are_fitted_apart(parts):
    human, mouse = parts
    mouse.source.species = "mouse"
    names = NAMES | {"rna mouse": [name.lower() for name in NAMES[RNA]]}
    config, filters = Fit(hvg_selection=20), Filters(min_genes=8, min_peaks=2)
    both = fit(parts, names, ["<cls>", "<pad>"], "v1", config, filters)
    for part, of in ((human, RNA), (mouse, "rna mouse")):
        alone = fit([part], names, ["<cls>", "<pad>"], "v1", config, filters)
        pd.testing.assert_frame_equal(both.statistics[of], alone.statistics[of])
        assert both.record.hvgs[of] == alone.record.hvgs[of]
    assert both.record.num_features == {of: len(its) for of, its in names.items()}
    with pytest.raises(InputError, match="was fitted on atac, rna human, rna mouse, not on rna ra"):
        both.record.is_kept("rna", "rat")


def test_peaks_of_a_source_that_are_one_peak_open_once_in_a_cell():
    counts = sp.csr_matrix([[1, 0, 2], [1, 1, 0], [0, 0, 1], [0, 1, 0]])
    source = MemorySource("a", list("wxyz"), {"atac": counts})
    part = CellsToFit(source, {"atac": np.array([1, -1, 1])}, np.zeros(4, dtype=np.uint8))
    peaks = fit([part], {"atac": ["p", "q"]}, [], "v", Fit(), Filters(min_peaks=1)).statistics
    assert peaks["atac"]["cells"].tolist() == [0, 3]
    assert peaks["atac"]["counts"].tolist() == [0, 5]
    with pytest.raises(InputError, match="4 have less than min_peaks 2"):
        fit([part], {"atac": ["p", "q"]}, [], "v", Fit(), Filters(min_peaks=2))


def test_a_list_of_genes_of_a_users_own_is_kept_in_its_order(parts, tmp_path):
    path = tmp_path / "hvg.csv"
    path.write_text("gene,note\nG07,x\nG03,y\n")
    fitted = fit(parts, NAMES, ["<cls>", "<pad>"], "v", Fit(hvg_selection=str(path)), Filters())
    assert fitted.record.hvgs == {RNA: ["G07", "G03"]}
    path.write_text("gene\nG07\nNONE\n")
    with pytest.raises(InputError, match=r"hvg\.csv: 1 of 2 genes are not measured and kept.*NONE"):
        fit(parts, NAMES, ["<cls>", "<pad>"], "v", Fit(hvg_selection=str(path)), Filters())
