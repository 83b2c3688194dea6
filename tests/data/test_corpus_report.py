import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scripts import check_corpus
from tests.memory_source import MemorySource
from vcpipe.config.cell_store import CellStore
from vcpipe.config.preprocess import Fitting
from vcpipe.config.tokens import Tokenizer
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.data.cell_sets import LEFT_OUT, TEST, TRAIN, VAL
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names
from vcpipe.data.corpus_report import corpus_tables, most_tokens, truncation_table
from vcpipe.data.corpus_to_store import to_store
from vcpipe.data.fitted_corpus import fit_corpus
from vcpipe.data.vocabulary_building import build_vocabularies
from vcpipe.errors import InputError
from vcpipe.files import write_json

NUM_GENES = 20
# Both have the same file of peaks, so that one file's name tells nobody which is meant.
PLATE_1, PLATE_2 = (f"atlas, plate{number}.h5ad + peaks.h5ad" for number in (1, 2))
RUNS = {
    "short": Tokenizer(strategy="binned_expression", max_genes=8, n_bins=6),
    "long": Tokenizer(strategy="rank_value", max_genes=32),
}


@pytest.fixture
def corpus(generator) -> Corpus:
    """Two files of one atlas: cell i of each has i genes; one gene is in the last cell only."""
    sources = []
    for name in ("plate1", "plate2"):
        counts = np.tril(generator.integers(1, 9, (NUM_GENES + 1, NUM_GENES)), -1)
        sources.append(
            MemorySource(
                *("atlas", [f"{name}{i}" for i in range(NUM_GENES + 1)]),
                {"rna": sp.csr_matrix(counts)},
                pd.DataFrame(index=range(NUM_GENES + 1)),
                path=f"somewhere/{name}.h5ad + elsewhere/peaks.h5ad",
            )
        )
    sets = np.array([LEFT_OUT, *[TRAIN] * 14, VAL, VAL, TEST, TEST, TRAIN, TRAIN], dtype=np.uint8)
    return Corpus(sources, [sets, sets], {}, False)


@pytest.fixture
def made(corpus, tmp_path):
    """Store and record; two genes are unknown, and one is filtered out."""
    given = tmp_path / "vocab.json"
    genes = ["<cls>", "<pad>", *(f"rna{i}" for i in range(2, NUM_GENES))]
    write_json(given, {gene: number for number, gene in enumerate(genes)})
    config = Vocabulary(genes=str(given))
    names = Names(build_vocabularies(corpus.sources, config), config)
    fitting = Fitting(filters={"min_genes": 2}, fit={"min_cells": 3})
    record = fit_corpus(corpus, names, fitting).record
    sources, vocabularies, coverage = to_store(corpus, names, record)
    about = {
        "vocabulary_digest": names.vocabularies.digest,
        "record_digest": record.digest,
        "coverage": coverage,
    }
    settings = CellStore(block_size=4)
    write_store(tmp_path / "store", sources, settings, about, vocabularies=vocabularies)
    return open_store(tmp_path / "store"), record


def test_every_gene_of_a_source_is_used_left_out_or_unknown(made):
    coverage = corpus_tables(*made, RUNS)["coverage"]
    assert coverage["source"].tolist() == [PLATE_1, PLATE_2]
    assert coverage["unknown"].tolist() == [2, 2]
    # Gene 19 is in the last cell of each plate only.
    assert coverage["filtered_out"].tolist() == [1, 1]
    parts = coverage["used"] + coverage["filtered_out"] + coverage["unknown"] + coverage["unnamed"]
    assert (parts == coverage["features"]).all()
    assert (coverage["features"] == NUM_GENES).all()


def test_every_cell_of_a_source_is_in_a_set_or_left_out_for_a_reason(made):
    cells = corpus_tables(*made, RUNS)["cells"]
    its = cells[cells["source"] == PLATE_2].set_index("what")["cells"]
    # Cells 1 to 3 have fewer than two genes that the vocabulary knows.
    assert its.to_dict() == {"train": 13, "val": 2, "test": 2, "held_out": 1, "min_genes": 3}
    assert cells["cells"].sum() == 2 * (NUM_GENES + 1)


def test_features_are_left_out_for_reasons(made):
    table = corpus_tables(*made, RUNS)["features"]
    assert table[table["number"] > 0].values.tolist() == [["rna human", "min_cells", 1]]


def test_lengths_are_those_of_the_stored_cells(made):
    store = made[0]
    lengths = corpus_tables(*made, RUNS)["lengths"]
    assert np.repeat(lengths["length"], lengths["cells"]).tolist() == sorted(
        np.diff(store.rows(np.arange(len(store))).starts)
    )


def test_truncated_cells_are_counted_by_hand(made):
    # Cells of 2 to 17 known genes, and one more of 17: gene 19 is left out of the last.
    table = corpus_tables(*made, RUNS)["truncation"].set_index("run")
    short, long = table.loc["short"], table.loc["long"]
    assert short["most_tokens"] == 7
    # 8, 9, ..., 17, 17 genes of both plates.
    assert (short["truncated_cells"], short["truncated_share"]) == (22, 22 / 34)
    assert (long["most_tokens"], long["truncated_cells"], long["longest"]) == (31, 0, 17)


@pytest.mark.parametrize("share", [10, 50, 90, 99])
def test_quantiles_are_lengths_that_so_many_cells_do_not_exceed(generator, share):
    found = generator.integers(1, 60, 999)
    values, cells = np.unique(found, return_counts=True)
    lengths = pd.DataFrame({"modality": "rna", "length": values, "cells": cells})
    table = truncation_table(lengths.sample(frac=1, random_state=0), {"run": Tokenizer()})
    expected = np.quantile(found, share / 100, method="inverted_cdf")
    assert table[f"q{share}"].tolist() == [expected]


@pytest.mark.parametrize(
    ("tokenizer", "room"),
    [
        ({"max_genes": 100}, {"rna": 99}),
        ({"max_genes": 100, "prepend_cls": False}, {"rna": 100}),
        ({"max_genes": 101, "include_zero_genes": 0.25}, {"rna": 75}),
        (
            {"strategy": "paired_peaks", "atac_max_len": 50, "rna_max_len": 40},
            {"rna": 20, "atac": 49},
        ),
    ],
)
def test_room_for_detected_features_is_what_tokenizers_leave(tokenizer, room):
    assert most_tokens(Tokenizer(**tokenizer)) == room


def test_shares_of_bins_are_those_of_training_cells(made):
    bins = corpus_tables(*made, RUNS)["bins"]
    assert set(bins["run"]) == {"short"}
    assert bins["bin"].tolist() == list(range(6))
    assert bins["share"].sum() == pytest.approx(1)
    assert bins["share"][0] == 0
    # One bin for every detected gene.
    binary = {"binary": Tokenizer(binning_method="binary", n_bins=3)}
    assert corpus_tables(*made, binary)["bins"]["share"].tolist() == [0, 1, 0]


def test_a_corpus_without_runs_has_tables_without_rows(made):
    tables = corpus_tables(*made, {})
    assert tables["truncation"].empty
    assert tables["bins"].empty
    assert "truncated_share" in tables["truncation"]


def test_a_record_that_the_store_was_not_written_with_is_refused(made, corpus, tmp_path):
    store, _ = made
    config = Vocabulary()
    names = Names(build_vocabularies(corpus.sources, config), config)
    other = fit_corpus(corpus, names, Fitting()).record
    with pytest.raises(InputError, match=f"but the given one is {other.digest}"):
        corpus_tables(store, other, RUNS)


def test_the_script_writes_tables_and_figures(made, tmp_path, capsys):
    store, record = made
    (tmp_path / "fitted").mkdir()
    record.write(tmp_path / "fitted/record.json")
    runs = "runs.short={strategy: binned_expression, max_genes: 8, n_bins: 6}"
    check_corpus.main(
        [
            *(f"--fitted={tmp_path / 'fitted'}", f"--store={store.path}"),
            *(f"--out={tmp_path / 'out'}", runs),
        ]
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"coverage", "cells", "features", "lengths", "truncation", "bins"}
    figures = {"coverage", "cells", "lengths", "bins"}
    assert names == {f"{name}.tsv" for name in tables} | {f"{name}.svg" for name in figures}
    shown = capsys.readouterr().out
    assert "short, rna: 64.7% of cells have more than 7 features" in shown
    assert f"{len(store)} cells of 2 sources" in shown
