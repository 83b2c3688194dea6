"""Two species with numbers of their own, from names to rows of the store."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scripts import build_vocabulary, fit_preprocessing, prepare_cells
from tests.memory_source import MemorySource
from vcpipe.config.cell_store import CellStore
from vcpipe.config.preprocess import Fitting
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.data.cell_sets import TEST, TRAIN
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.cell_store.writing import write_store
from vcpipe.data.corpus import Corpus
from vcpipe.data.corpus_names import Names, read_names
from vcpipe.data.corpus_to_store import to_store
from vcpipe.data.fitted_corpus import fit_corpus, ids_of
from vcpipe.data.preprocessing_record import read_record
from vcpipe.data.vocabulary_building import build_vocabularies
from vcpipe.data.vocabulary_files import read_vocabularies
from vcpipe.errors import InputError
from vcpipe.training.learners.learner import PreparedCells

SPECIAL = 4
GENES = {
    "human": [f"GENE{number:02d}" for number in range(12)],
    # One gene is spelled as in human, and one species has more of them.
    "mouse": ["GENE03", *(f"Gene{number:02d}" for number in range(14))],
}


def cells_of(species: str, generator: np.random.Generator) -> MemorySource:
    counts = generator.poisson(1.5, (40, len(GENES[species])))
    counts[:, 0] += 1
    labels = pd.DataFrame({"batch": pd.Categorical([f"{species}{i % 2}" for i in range(40)])})
    return MemorySource(
        *(f"{species}_atlas", [f"{species}{number}" for number in range(40)]),
        *({"rna": sp.csr_matrix(counts)}, labels),
        feature_names={"rna": GENES[species]},
        species=species,
    )


@pytest.fixture
def sources(generator):
    return [cells_of(species, generator) for species in GENES]


def corpus_of(sources, test_cells: int = 0) -> Corpus:
    sets = np.full(40, TRAIN, dtype=np.uint8)
    sets[:test_cells] = TEST
    return Corpus(sources, [sets] * len(sources), {}, False)


def names_of(sources, **settings) -> Names:
    config = Vocabulary(**settings)
    return Names(build_vocabularies(sources, config), config)


def stored(path, corpus: Corpus, names: Names, **fitting):
    record = fit_corpus(corpus, names, Fitting(**fitting)).record
    made, vocabularies, _ = to_store(corpus, names, record)
    about = {"vocabulary_digest": names.vocabularies.digest, "record_digest": record.digest}
    write_store(path, made, CellStore(), about, vocabularies=vocabularies)
    return open_store(path)


def counts_in(store, cell: str) -> dict[str, int]:
    """Counts of a stored cell by the names of its species."""
    labels = store.labels(np.arange(len(store)), ["cell", "dataset"]).to_pandas()
    position = labels.index[labels["cell"] == cell][0]
    species = labels["dataset"][position].removesuffix("_atlas")
    names, row = store.feature_names("rna", species), store.rows([position])
    return dict(zip([names[i] for i in row.ids], row.counts.tolist(), strict=True))


def test_every_species_has_numbers_of_its_own_and_the_store_keeps_them(sources, tmp_path):
    names = names_of(sources)
    store = stored(tmp_path / "store", corpus_of(sources), names)
    assert store.manifest["modalities"]["rna"]["num_features"] == {"human": 16, "mouse": 19}
    for source in sources:
        vocabulary = names.vocabularies.of("rna", source.species)
        assert store.feature_names("rna", source.species) == vocabulary.names()
        assert (vocabulary.ids["<cls>"], vocabulary.ids["<pad>"]) == (0, 1)
        for row in range(40):
            counts = source.counts["rna"][row].toarray()[0]
            expected = dict(zip(GENES[source.species], counts.tolist(), strict=True))
            found = counts_in(store, source.cells[row])
            assert found == {gene: number for gene, number in expected.items() if number}
    ids = {species: names.vocabularies.genes[species].ids["GENE03"] for species in GENES}
    assert ids == {"human": SPECIAL + 3, "mouse": SPECIAL}


def test_what_is_fitted_is_fitted_by_species(sources):
    names = names_of(sources)
    # Few genes are too few for the curve of seurat_v3.
    fit = {"hvg_selection": 5, "hvg_flavor": "seurat", "hvg_batch_key": None}
    record = fit_corpus(corpus_of(sources), names, Fitting(fit=fit)).record
    assert set(record.hvgs) == {"rna human", "rna mouse"}
    assert set(record.hvgs["rna mouse"]) <= set(GENES["mouse"])
    for source in sources:
        medians = record.gene_medians(source.species)
        assert len(medians) == len(names.vocabularies.of("rna", source.species))
        values = source.counts["rna"].toarray()
        scaled = values / values.sum(axis=1, keepdims=True) * 1e4
        median = np.median(scaled[:, 0][values[:, 0] > 0])
        gene = names.vocabularies.genes[source.species].ids[GENES[source.species][0]]
        assert medians[gene] == pytest.approx(median, rel=0.02)


def test_cells_of_test_change_nothing_that_is_fitted(sources, generator):
    names = names_of(sources)
    before = fit_corpus(corpus_of(sources, 10), names, Fitting()).record
    for source in sources:
        spoilt = source.counts["rna"].toarray()
        spoilt[:10] = 99
        source.counts["rna"] = sp.csr_matrix(spoilt)
    assert fit_corpus(corpus_of(sources, 10), names, Fitting()).record == before


def test_genes_that_fitting_leaves_out_are_not_stored(sources, tmp_path):
    for source in sources:
        rare = source.counts["rna"].toarray()
        rare[1:, 3] = 0
        source.counts["rna"] = sp.csr_matrix(rare)
    store = stored(tmp_path / "store", corpus_of(sources), names_of(sources), fit={"min_cells": 2})
    for source in sources:
        gene = GENES[source.species][3]
        assert not any(gene in counts_in(store, cell) for cell in source.cells)
    # A cell keeps its total, genes that are left out included.
    labels = store.labels(np.arange(len(store)), ["cell"])["cell"].to_pylist()
    totals = dict(zip(labels, store.rows(np.arange(len(store))).totals, strict=True))
    for source in sources:
        sums = source.counts["rna"].sum(axis=1).A1
        assert [totals[cell] for cell in source.cells] == sums.tolist()


def test_a_record_of_other_names_is_refused(sources, tmp_path):
    corpus = corpus_of(sources)
    record = fit_corpus(corpus, names_of(sources), Fitting()).record
    other = names_of(sources, special_tokens={"others": []})
    with pytest.raises(InputError, match="vocabulary"):
        to_store(corpus, other, record)


def test_masked_values_learns_one_species(sources, tmp_path):
    store = stored(tmp_path / "both", corpus_of(sources), names_of(sources))
    with pytest.raises(InputError, match="has genes of human, mouse, each with ids of its own"):
        species_of(store)
    store = stored(tmp_path / "one", corpus_of(sources[1:]), names_of(sources[1:]))
    assert species_of(store) == "mouse"


def species_of(store) -> str:
    return PreparedCells(store, None, None).only_species("masked_values")


def test_a_species_without_a_vocabulary_is_refused(sources):
    with pytest.raises(InputError, match="no vocabulary for the genes of 'mouse'"):
        ids_of(sources[1], names_of(sources[:1]))


def test_scripts_make_the_same_of_two_species_in_files(counts, tmp_path):
    """species/*.csv as scConcept has them; a folder of names survives the way to the store."""
    human, mouse = counts, counts.copy()
    mouse.var_names = [name.capitalize() for name in mouse.var_names]
    for name, cells in {"human": human, "mouse": mouse}.items():
        cells.write_h5ad(tmp_path / f"{name}.h5ad")
    atlases = tmp_path / "atlases.yaml"
    atlases.write_text(
        "".join(
            f"{name}_atlas: {{rna: {{paths: [{tmp_path}/{name}.h5ad]}}, species: {name}}}\n"
            for name in GENES
        )
    )
    vocabulary, fitted, out = (tmp_path / name for name in ("vocabulary", "fitted", "store"))
    corpus = [f"--atlases={atlases}", f"--vocabulary={vocabulary}"]
    build_vocabulary.main([f"--atlases={atlases}", f"--out={vocabulary}"])
    fit_preprocessing.main([*corpus, f"--out={fitted}", "cell_split.val=0.25"])
    prepare_cells.main([*corpus, f"--fitted={fitted}", f"--out={out}"])
    for species, gene in {"human": "GENE00", "mouse": "Gene00"}.items():
        table = pd.read_csv(vocabulary / f"species/{species}.csv", keep_default_na=False)
        assert table["gene_id"][:2].tolist() == ["<cls>", "<pad>"]
        assert table["token"].tolist() == list(range(34))
        assert table["gene_name"][SPECIAL] == gene
    assert not (vocabulary / "vocab.json").exists()
    store = open_store(out)
    assert {name: len(its) for name, its in store.sets.items()} == {
        **{"train": 180, "val": 60, "test": 0},
    }
    assert store.manifest["about"]["vocabulary_digest"] == read_vocabularies(vocabulary).digest
    assert store.manifest["about"]["record_digest"] == read_record(fitted / "record.json").digest
    assert read_names(vocabulary).settings == Vocabulary()
