"""Where the cells of an atlas are, and what its settings may not say together."""

import pytest
from pydantic import ValidationError

from vcpipe.config.atlases import Atlas
from vcpipe.config.reading import read_section, settings
from vcpipe.config.vocabulary import Vocabulary
from vcpipe.errors import InputError

CENSUS = {"filters": {"tissue": "brain"}}
FILES = {"paths": ["a.h5ad", "more/*.h5ad"]}


def test_an_atlas_in_files_stays_as_it_is():
    atlas = Atlas(rna=FILES, atac={"paths": ["peaks.h5ad"]})
    assert not atlas.is_fetched()
    assert atlas.in_file("fetched.h5ad") is atlas
    assert atlas.paths() == ["a.h5ad", "more/*.h5ad", "peaks.h5ad"]


def test_a_fetched_census_is_read_by_its_gene_names():
    atlas = Atlas(census=CENSUS, batch_key="donor_id", species="human")
    assert atlas.is_fetched()
    assert atlas.paths() == []
    found = atlas.in_file("fetched.h5ad")
    assert not found.is_fetched()
    assert found.paths() == ["fetched.h5ad"]
    assert (found.rna.layer, found.rna.name_key) == ("X", "feature_name")
    assert (found.batch_key, found.census) == ("donor_id", None)


def test_a_fetched_artifact_is_read_as_its_settings_say():
    artifact = {"instance": "a/b", "key": "h.h5ad", "layer": "raw", "name_key": "symbol"}
    found = Atlas(artifact=artifact).in_file("fetched.h5ad")
    assert (found.rna.layer, found.rna.name_key) == ("raw", "symbol")
    assert found.paths() == ["fetched.h5ad"]


def test_a_fetched_atlas_survives_the_way_to_a_script():
    found = Atlas(census=CENSUS).in_file("fetched.h5ad")
    assert read_section(Atlas, settings(found)) == found


def test_a_simulated_atlas_is_in_a_folder_of_genes_and_peaks():
    atlas = Atlas(simulate={}, batch_key="batch")
    assert atlas.is_fetched()
    assert atlas.has("rna")
    assert atlas.has("atac")
    found = atlas.in_file("folder")
    assert found.paths() == ["folder/rna.h5ad", "folder/atac.h5ad"]
    assert not found.is_fetched()
    assert found.batch_key == "batch"


def test_a_simulated_atlas_may_have_genes_alone():
    atlas = Atlas(simulate={"num_peaks": 0})
    assert not atlas.has("atac")
    assert atlas.in_file("folder").paths() == ["folder/rna.h5ad"]


def test_genes_of_a_census_are_there_before_it_is_fetched():
    atlas = Atlas(census=CENSUS)
    assert atlas.has("rna")
    assert not atlas.has("atac")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "the cells come from nowhere"),
        ({"rna": FILES, "census": CENSUS}, "from rna or atac and census; expected exactly one"),
        ({"atac": FILES, "orthologs": "o.csv", "species": "mouse"}, "has peaks only"),
        ({"rna": FILES, "orthologs": "o.csv"}, "species and ortholog_species are both human"),
        ({"rna": FILES, "obs_columns": ["split"]}, "which the store has of its own"),
        ({"rna": FILES, "obs_columns": ["x", "x"]}, "names a column twice"),
        ({"rna": FILES, "simulate": {}}, "from rna or atac and simulate; expected exactly one"),
        ({"simulate": {"num_genes": 20, "num_peaks": 1001}}, "at most 1000, 50 for each gene"),
        ({"rna": {"paths": []}}, "at least 1 item"),
        ({"rna": FILES, "species": "Homo sapiens"}, "should match pattern"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        Atlas(**given)


def test_a_misspelt_key_of_an_atlas_is_named():
    with pytest.raises(InputError, match="did you mean 'batch_key'"):
        read_section(Atlas, "{rna: {paths: [a.h5ad]}, batchkey: x}")


def test_the_files_of_a_vocabulary_are_named_by_their_keys():
    assert Vocabulary().files() == {}
    found = Vocabulary(
        genes={"human": "h.csv", "mouse": "m.csv"},
        peaks="atac.json",
        gene_chromosomes="places.tsv",
        gene_embeddings={"human": "h.npy"},
        cell_types="types.json",
    ).files()
    assert found == {
        "genes.human": "h.csv",
        "genes.mouse": "m.csv",
        "peaks": "atac.json",
        "gene_chromosomes": "places.tsv",
        "cell_types": "types.json",
        "gene_embeddings.human": "h.npy",
        "gene_embeddings.human (genes)": "h.txt",
    }


def test_the_genes_beside_vectors_are_among_the_files_where_they_are_there(tmp_path):
    vectors = {name: str(tmp_path / f"h.{name}") for name in ("csv", "pt", "safetensors")}
    named = {f"gene_embeddings.{name}": path for name, path in vectors.items()}
    assert Vocabulary(gene_embeddings=vectors).files() == named
    (tmp_path / "h.txt").touch()
    beside = str(tmp_path / "h.txt")
    assert Vocabulary(gene_embeddings=vectors).files() == named | {
        "gene_embeddings.pt (genes)": beside,
        "gene_embeddings.safetensors (genes)": beside,
    }


def test_a_given_vocabulary_and_a_panel_exclude_each_other():
    with pytest.raises(ValidationError, match="so expected one of them"):
        Vocabulary(genes="vocab.json", panel="panel.csv")
