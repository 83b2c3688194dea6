"""Simulated atlases: peaks follow the genes beside them, species share their cell types."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scripts import simulate_atlas
from vcpipe.config.atlases import SimulatedAtlas
from vcpipe.data.chromosomes import read_gene_chromosomes
from vcpipe.data.peaks import parse_peaks
from vcpipe.data.simulated_atlas import (
    BLOCK,
    DISTAL,
    GENE_DISTANCE,
    NEAR,
    draw_counts,
    plan_atlas,
    spelt,
    write_atlas,
)

SMALL = {"num_cells": 300, "num_genes": 60, "num_peaks": 160}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    write_atlas(folder, plan_atlas(SimulatedAtlas(**SMALL), "human"))
    return folder


def test_genes_and_peaks_are_raw_counts_of_the_same_labelled_cells(folder):
    genes, peaks = (ad.read_h5ad(folder / f"{name}.h5ad") for name in ("rna", "atac"))
    assert genes.shape == (300, 60)
    assert peaks.shape == (300, 160)
    assert genes.obs_names.equals(peaks.obs_names)
    for cells in (genes, peaks):
        assert cells.X.format == "csr"
        assert (cells.X.data == np.round(cells.X.data)).all()
        assert cells.var_names.is_unique
        assert cells.obs["cell_type"].nunique() == 6
        assert cells.obs["batch"].nunique() == 3


def test_cells_have_the_depth_that_is_asked_for(folder):
    for name, depth in (("rna", 1000), ("atac", 250)):
        assert ad.read_h5ad(folder / f"{name}.h5ad").X.sum(1).mean() == pytest.approx(
            depth, rel=0.1
        )


def test_the_table_says_on_which_chromosome_each_gene_lies(folder):
    places = read_gene_chromosomes(folder / "gene_chromosomes.tsv")
    genes = ad.read_h5ad(folder / "rna.h5ad").var_names
    assert list(places) == list(genes)
    assert set(places.values()) == {"chr1", "chr2", "chr3", "chr4"}


def test_peaks_lie_on_the_chromosome_of_their_gene_and_apart_from_each_other():
    plan = plan_atlas(SimulatedAtlas(**SMALL), "human")
    near = plan.gene_P >= 0
    assert near.sum() == NEAR * 160
    assert len(set(plan.gene_P[near])) == 60
    peaks = parse_peaks(plan.peaks)
    chromosome_P = np.array(peaks.chromosomes)[peaks.chromosome]
    assert (chromosome_P[near] == plan.chromosome_G[plan.gene_P[near]]).all()
    assert ((peaks.starts % GENE_DISTANCE < DISTAL) == near).all()
    order = np.lexsort([peaks.starts, peaks.chromosome])
    same = np.diff(peaks.chromosome[order]) == 0
    assert (peaks.ends[order][:-1] < peaks.starts[order][1:])[same].all()


def test_a_peak_near_a_gene_is_open_where_the_gene_is_expressed_and_a_distal_one_tells_nothing():
    config = SimulatedAtlas(**SMALL | {"num_cells": 256}, depth=6000, peak_depth=4000)
    plan = plan_atlas(config, "human")
    genes, peaks = (counts.toarray() for counts in draw_counts(plan, 0))
    genes, peaks = (np.log1p(its / its.sum(1, keepdims=True) * 1e4) for its in (genes, peaks))
    followed = np.where(plan.gene_P >= 0, plan.gene_P, np.arange(len(plan.gene_P)) % 60)
    similarity = np.array(
        [np.corrcoef(peaks[:, p], genes[:, g])[0, 1] for p, g in enumerate(followed)]
    )
    assert similarity[plan.gene_P >= 0].mean() > 0.5
    assert abs(similarity[plan.gene_P < 0].mean()) < 0.1


def test_the_settings_decide_every_count_and_a_seed_changes_them():
    plan = plan_atlas(SimulatedAtlas(**SMALL), "human")
    again = plan_atlas(SimulatedAtlas(**SMALL), "human")
    other = plan_atlas(SimulatedAtlas(**SMALL, seed=8), "human")
    drawn = (draw_counts(its, 1) for its in (plan, again, other))
    for first, second, third in zip(*drawn, strict=True):
        assert first.shape[0] == 300 - BLOCK
        assert (first != second).nnz == 0
        assert (first != third).nnz > 0


def test_species_of_one_seed_have_the_same_types_in_orthologous_genes():
    human, mouse = (plan_atlas(SimulatedAtlas(**SMALL), species) for species in ("human", "mouse"))
    assert [name.upper() for name in mouse.genes] == list(human.genes)
    assert not set(mouse.genes) & set(human.genes)
    assert not set(mouse.obs.index) & set(human.obs.index)
    np.testing.assert_array_equal(human.log_type_KG, mouse.log_type_KG)
    assert not np.array_equal(human.log_gene_G, mouse.log_gene_G)
    assert np.corrcoef(human.log_gene_G, mouse.log_gene_G)[0, 1] > 0.8
    assert list(human.obs["cell_type"].cat.categories) == list(
        mouse.obs["cell_type"].cat.categories
    )


def test_genes_are_spelt_as_the_species_spells_them():
    assert [spelt("ACTB", species) for species in ("human", "hsapiens", "mouse")] == [
        *("ACTB", "ACTB", "Actb")
    ]


def test_without_peaks_there_are_genes_alone(tmp_path, capsys):
    out = tmp_path / "atlas"
    simulate_atlas.main(
        [f"--out={out}", "--species=mouse", "num_cells=20", "num_genes=30", "num_peaks=0"]
    )
    assert {path.name for path in out.iterdir()} == {"rna.h5ad", "gene_chromosomes.tsv"}
    assert "20 cells of mouse, 30 genes, 0 peaks" in capsys.readouterr().out
    table = pd.read_csv(out / "gene_chromosomes.tsv", sep="\t")
    assert table["gene"].tolist() == ad.read_h5ad(out / "rna.h5ad").var_names.tolist()
