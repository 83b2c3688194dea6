from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.data.sources.written import Table, write_h5ad, write_h5mu, write_tenx_h5
from vcpipe.config.atlases import Atlas
from vcpipe.data.sources import file_cells, matrix
from vcpipe.data.sources.atlas import open_atlas
from vcpipe.errors import InputError

REAL = Path(__file__).parents[3].parent / "shared/data"


@pytest.fixture
def rna() -> Table:
    counts = np.random.default_rng(0).poisson(1.0, (60, 5)).astype(np.float32)
    return Table(sp.csr_matrix(counts), [f"c{row:02d}" for row in range(60)], list("ABCDE"))


@pytest.fixture
def atac(rna) -> Table:
    counts = np.random.default_rng(1).poisson(0.5, (60, 9)).astype(np.float32)
    peaks = [f"chr1:{start}-{start + 5}" for start in range(0, 90, 10)]
    return Table(sp.csr_matrix(counts), rna.cells, peaks, kind="Peaks")


def taken(table: Table, rows: np.ndarray) -> Table:
    return replace(table, counts=table.counts[rows], cells=[table.cells[row] for row in rows])


def open_pairs(rna, atac, **settings):
    def files(paths):
        return {"paths": list(map(str, paths if isinstance(paths, list) else [paths]))}

    return open_atlas("tiny", Atlas(rna=files(rna), atac=files(atac), **settings))


def assert_all_have_their_own(sources, rna: Table, atac: Table, wanted=None) -> list[str]:
    """Each cell has the counts of its name in both tables; gives the names."""
    found = []
    for source in sources:
        mask = None if wanted is None else wanted[: len(source)]
        for chunk in source.chunks(mask):
            names = source.names(chunk.rows).tolist()
            for modality, table in (("rna", rna), ("atac", atac)):
                rows = [table.cells.index(name.split(":")[-1]) for name in names]
                assert (chunk.counts[modality] != table.counts[rows]).nnz == 0
            found += names
    return found


@pytest.mark.parametrize("order", ["same", "reversed", "shuffled"])
@pytest.mark.parametrize("few_entries", [20, 2**21])
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_cells_are_paired_by_name_whatever_their_order(
    tmp_path, monkeypatch, rna, atac, order, few_entries, layout
):
    for module in (file_cells, matrix):
        monkeypatch.setattr(module, "ENTRIES_PER_CHUNK", few_entries)
    rows = {
        "same": np.arange(60),
        "reversed": np.arange(60)[::-1],
        "shuffled": np.random.default_rng(2).permutation(60),
    }[order]
    sources = open_pairs(
        write_h5ad(tmp_path / "r.h5ad", rna),
        write_h5ad(tmp_path / "a.h5ad", taken(atac, rows), layout),
    )
    assert assert_all_have_their_own(sources, rna, atac) == rna.cells
    wanted = np.arange(60) % 3 == 0
    assert assert_all_have_their_own(sources, rna, atac, wanted) == rna.cells[::3]


def test_cells_without_the_other_modality_are_left_out_and_counted(tmp_path, rna, atac):
    (source,) = sources = open_pairs(
        write_h5ad(tmp_path / "r.h5ad", taken(rna, np.arange(0, 50))),
        write_h5ad(tmp_path / "a.h5ad", taken(atac, np.arange(59, 29, -1))),
    )
    assert assert_all_have_their_own(sources, rna, atac) == rna.cells[30:50]
    assert (source.overlap.rna, source.overlap.atac, source.overlap.paired) == (50, 30, 20)
    assert len(source) == len(source.labels) == 20


def test_cells_are_found_in_all_files(tmp_path, rna, atac):
    shuffled = np.random.default_rng(2).permutation(60)
    sources = open_pairs(
        [
            write_h5ad(tmp_path / f"r{n}.h5ad", taken(rna, rows))
            for n, rows in enumerate(np.split(np.arange(60), [10]))
        ],
        [
            write_h5ad(tmp_path / f"a{n}.h5ad", taken(atac, rows))
            for n, rows in enumerate(np.split(shuffled, [20, 45]))
        ],
    )
    assert len(sources) == 6
    assert len({source.path for source in sources}) == 6
    assert sorted(assert_all_have_their_own(sources, rna, atac)) == rna.cells
    assert sources[0].overlap.paired == 60


def test_with_prefixes_the_first_file_belongs_to_the_first(tmp_path, rna, atac):
    paths = [
        [write_h5ad(tmp_path / f"{kind}{n}.h5ad", table) for n in range(2)]
        for kind, table in (("r", rna), ("a", atac))
    ]
    with pytest.raises(InputError, match=r"60 names of cells stand in .*r0.h5ad and in .*r1.h5ad"):
        open_pairs(*paths)
    sources = open_pairs(*paths, repeated_cells="prefix")
    names = assert_all_have_their_own(sources, rna, atac)
    assert names == [f"r{n}:{cell}" for n in range(2) for cell in rna.cells]
    with pytest.raises(InputError, match="2 files of RNA and 1 of ATAC"):
        open_pairs(paths[0], paths[1][:1], repeated_cells="prefix")


def test_both_modalities_may_be_in_one_file(tmp_path, rna, atac):
    shuffled = taken(atac, np.random.default_rng(2).permutation(60)[:40])
    for path in (
        write_h5mu(tmp_path / "a.h5mu", {"rna": rna, "atac": shuffled}),
        write_tenx_h5(tmp_path / "a.h5", [rna, atac]),
    ):
        sources = open_pairs(path, path)
        names = assert_all_have_their_own(sources, rna, atac)
        assert set(names) == set(rna.cells if path.suffix == ".h5" else shuffled.cells)
        assert sources[0].path == str(path)


def test_no_pair_is_an_error_with_both_numbers_and_examples(tmp_path, rna, atac):
    other = replace(taken(atac, np.arange(50)), cells=[f"x{n}" for n in range(50)])
    with pytest.raises(
        InputError,
        match=r"none of 60 cells in .*r.h5ad \(c00, c01, c02\) is among 50 cells in .*a.h5ad "
        r"\(x0, x1, x2\).*Give the files of the same cells",
    ):
        open_pairs(write_h5ad(tmp_path / "r.h5ad", rna), write_h5ad(tmp_path / "a.h5ad", other))


@pytest.mark.parametrize(
    ("rename", "hint"),
    [
        ("{}-1", "of atac have a suffix such as -1"),
        ("mop#{}", "of atac have a prefix such as sample#"),
        ("{}_mop", "of atac have a suffix such as _sample"),
        ("mop#{}-1", "of atac have a prefix such as sample# and a suffix such as -1"),
    ],
)
def test_names_that_differ_by_what_programs_add_are_told(tmp_path, rna, atac, rename, hint):
    other = replace(atac, cells=[rename.format(cell) for cell in atac.cells])
    with pytest.raises(InputError, match=hint):
        open_pairs(write_h5ad(tmp_path / "r.h5ad", rna), write_h5ad(tmp_path / "a.h5ad", other))


def test_labels_come_from_whichever_file_has_them(tmp_path, rna, atac):
    shuffled = np.random.default_rng(2).permutation(60)
    rna = replace(rna, obs=pd.DataFrame({"plate": ["p1", "p2"] * 30}, index=rna.cells))
    obs = pd.DataFrame({"annot": ["T", "B", "NK"] * 20}, index=atac.cells)
    other = replace(taken(atac, shuffled), obs=obs.iloc[shuffled])
    (source,) = open_pairs(
        write_h5ad(tmp_path / "r.h5ad", rna),
        write_h5ad(tmp_path / "a.h5ad", other),
        batch_key="plate",
        cell_type_key="annot",
    )
    assert source.labels["batch"].tolist() == ["p1", "p2"] * 30
    assert source.labels["cell_type"].tolist() == ["T", "B", "NK"] * 20
    with pytest.raises(InputError, match="no obs column 'age'; its columns are plate, annot"):
        open_pairs(tmp_path / "r.h5ad", tmp_path / "a.h5ad", donor_key="age")


@pytest.mark.skipif(not REAL.exists(), reason="needs the real data")
def test_real_cells_of_mouse_cortex_are_paired_and_called_by_human_genes():
    paths = [REAL / f"snareseq_mop_{kind}_counts.h5ad" for kind in ("rna", "atac")]
    (source,) = open_pairs(
        *paths,
        batch_key="batch",
        cell_type_key="cell_type",
        species="mouse",
        orthologs=str(REAL / "genes/human2mouse_ensembl105.csv"),
    )
    assert (source.overlap.paired, len(source)) == (10_309, 10_309)
    assert source.species == "human"
    assert source.labels.nunique().to_dict() == {"batch": 12, "cell_type": 15}
    totals = {"rna": 0.0, "atac": 0.0}
    for chunk in source.chunks():
        for modality, counts in chunk.counts.items():
            totals[modality] += counts.sum(dtype=np.float64)
    for modality, path in zip(totals, paths, strict=True):
        (alone,) = open_atlas("alone", Atlas(**{modality: {"paths": [str(path)]}}))
        assert totals[modality] == sum(
            chunk.counts[modality].sum(dtype=np.float64) for chunk in alone.chunks()
        )
    fates = source.orthologs["fate"].value_counts()
    assert fates["one_to_one"] > 1500
    assert fates["added"] == 2
