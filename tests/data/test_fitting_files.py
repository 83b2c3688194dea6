import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.memory_source import MemorySource
from vcpipe.config.fitting import Filters, Fit
from vcpipe.data.fitting import fit
from vcpipe.data.fitting_files import write_fitted
from vcpipe.data.preprocessing_record import read_record
from vcpipe.data.training_cells import CellsToFit

GENES = ["<cls>", *(f"G{number:02d}" for number in range(40))]


def part(species, generator):
    counts = generator.poisson(generator.gamma(1.0, 2.0, 40), (60, 40))
    peaks = generator.random((60, 5)) < 0.5
    matrices = {"rna": sp.csr_matrix(counts), "atac": sp.csr_matrix(peaks)}
    cells = [f"c{number}" for number in range(60)]
    source = MemorySource(species, cells, matrices, species=species)
    ids = {"rna": np.arange(1, 41), "atac": np.arange(5)}
    return CellsToFit(source, ids, np.zeros(60, dtype=np.uint8))


@pytest.mark.parametrize("all_species", [["human"], ["human", "mouse"]])
def test_tables_show_what_the_record_holds(all_species, generator, tmp_path):
    parts = [part(species, generator) for species in all_species]
    names = {f"rna {species}": GENES for species in all_species} | {"atac": list("pqrst")}
    config = Fit(hvg_selection=10, hvg_flavor="seurat", hvg_batch_key=None, min_cells=20)
    fitted = fit(parts, names, ["<cls>"], "v", config, Filters())
    write_fitted(tmp_path, fitted, ["<cls>"])
    record = read_record(tmp_path / "record.json")
    assert record == fitted.record
    genes = pd.read_csv(tmp_path / "genes.tsv", sep="\t")
    assert len(genes) == 40 * len(all_species)
    for species in all_species:
        its = genes[genes["species"] == species]
        assert its["kept"].tolist() == record.is_kept("rna", species)[1:].tolist()
        np.testing.assert_allclose(its["median"], record.gene_medians(species)[1:])
        alone = len(all_species) == 1
        hvgs = pd.read_csv(tmp_path / ("hvg.csv" if alone else f"species/{species}_hvg.csv"))
        # EpiFoundation reads the first column of every row.
        assert hvgs.iloc[:, 0].tolist() == record.hvgs[f"rna {species}"]
        assert hvgs["rank"].tolist() == list(range(1, 11))
        assert (hvgs["cells"] >= 20).all()
    peaks = pd.read_csv(tmp_path / "peaks.tsv", sep="\t")
    assert peaks["peak"].tolist() == list("pqrst")
