import json
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from scripts.convert_to_gears import main
from vcpipe.config.gears import Conversion
from vcpipe.data import gears
from vcpipe.data.gears import convert, index_dtype
from vcpipe.data.gears_rankings import encoded
from vcpipe.data.screen import open_screen
from vcpipe.errors import InputError

JURKAT = Path(__file__).parents[3] / "shared" / "data" / "datlinger_jurkat_cropseq_counts.h5ad"


def settings(**dataset) -> Conversion:
    return Conversion.model_validate({"dataset": dataset})


@pytest.fixture
def converted(counts, tmp_path):
    """Convert a variant of the tiny screen: converted(cells, chunk=7, batch_key=None)."""

    def run(cells: ad.AnnData = counts, chunk: int | None = None, **dataset) -> ad.AnnData:
        cells.write_h5ad(tmp_path / "raw.h5ad")
        convert(tmp_path / "raw.h5ad", "tiny", settings(**dataset), tmp_path / "out.h5ad", chunk)
        return ad.read_h5ad(tmp_path / "out.h5ad")

    return run


def test_conditions_and_their_columns_are_those_of_gears(converted, counts):
    obs = converted().obs
    assert obs["condition"].iloc[0] == "ctrl"
    assert set(obs["condition"]) == {"ctrl"} | {
        f"{gene}+ctrl" for gene in ("GENE03", "GENE07", "GENE11", "GENE19", "GENE23")
    }
    row = obs[obs["condition"] == "GENE07+ctrl"].iloc[0]
    assert (row["dose_val"], row["control"]) == ("1+1", 0)
    assert row["condition_name"] == "unknown_GENE07+ctrl_1+1"
    control = obs[obs["condition"] == "ctrl"].iloc[0]
    assert (control["dose_val"], control["control"]) == ("1", 1)
    assert control["condition_name"] == "unknown_ctrl_1"
    assert list(obs["target_gene"]) == list(counts.obs["target_gene"])
    assert list(obs["batch"]) == list(counts.obs["batch"])


def test_counts_come_back_exactly_and_values_are_their_normalised_logarithms(converted, counts):
    made = converted()
    np.testing.assert_array_equal(made.layers["counts"].toarray(), counts.X.toarray())
    dense = counts.X.toarray().astype(np.float64)
    expected = np.log1p(dense * 1e4 / dense.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(made.X.toarray(), expected, rtol=1e-6)
    assert made.X.dtype == np.float32


@pytest.mark.parametrize("layout", [sp.csc_matrix, lambda x: x.toarray(), lambda x: x.astype(int)])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_the_result_does_not_depend_on_layout_or_chunk_size(
    converted, counts, tmp_path, layout, chunk
):
    converted()
    expected = (tmp_path / "out.h5ad").read_bytes()
    other = counts.copy()
    other.X = layout(counts.X)
    converted(other, chunk)
    assert (tmp_path / "out.h5ad").read_bytes() == expected


def test_unsorted_and_doubled_entries_are_the_counts_they_add_up_to(converted, counts):
    # Row 0 as 1 + the rest, with the columns in falling order.
    row = counts.X[0].tocoo()
    data = np.concatenate([(row.data - 1)[::-1], np.ones(row.nnz, dtype=np.float32)])
    columns = np.concatenate([row.col[::-1], row.col])
    rest = counts.X[1:]
    counts.X = sp.csr_matrix(
        (
            np.concatenate([data, rest.data]),
            np.concatenate([columns, rest.indices]),
            np.concatenate([[0], rest.indptr + len(data)]),
        ),
        shape=counts.shape,
    )
    expected = counts.X.toarray()
    np.testing.assert_array_equal(converted(counts).layers["counts"].toarray(), expected)


def test_the_data_digest_follows_counts_labels_and_gene_names_but_not_settings(counts, tmp_path):
    def digest(cells, **normalisation):
        cells.write_h5ad(tmp_path / "raw.h5ad")
        config = Conversion.model_validate({"normalisation": normalisation})
        return convert(tmp_path / "raw.h5ad", "tiny", config, tmp_path / "o.h5ad")["data_digest"]

    plain = digest(counts)
    assert digest(counts, target_sum=1e6) == plain
    one_more = counts.copy()
    one_more.X.data[0] += 1
    relabelled = counts.copy()
    relabelled.obs["target_gene"] = counts.obs["target_gene"].cat.rename_categories(
        {"GENE03": "GENE07", "GENE07": "GENE03"}
    )
    renamed = counts.copy()
    renamed.var_names = [f"{name}x" if name == "GENE29" else name for name in counts.var_names]
    assert len({plain, digest(one_more), digest(relabelled), digest(renamed)}) == 4


def test_rankings_equal_scanpys_wherever_scores_differ(converted, two_cell_types):
    made = converted(two_cell_types, cell_type_key="kind")
    groups = made.uns["rank_genes_groups_cov_all"]
    for kind in ("A549", "K562"):
        cells = made[made.obs["cell_type"] == kind].copy()
        sc.tl.rank_genes_groups(
            cells,
            "condition_name",
            reference=f"{kind}_ctrl_1",
            method="t-test",
            rankby_abs=True,
            use_raw=False,
        )
        theirs = cells.uns["rank_genes_groups"]
        for name in theirs["names"].dtype.names:
            score = dict(zip(theirs["names"][name], np.abs(theirs["scores"][name]), strict=True))
            ours = list(groups.pop(name))
            assert sorted(ours) == sorted(score)
            same_place = np.array(ours) == theirs["names"][name]
            # Only genes whose scores are equal may change places.
            np.testing.assert_allclose(
                [score[gene] for gene in ours], np.abs(theirs["scores"][name]), rtol=1e-5
            )
            assert same_place.mean() > 0.9
    assert not groups


def test_top_genes_leave_out_dropouts_and_genes_without_counts(converted, two_cell_types):
    uns = converted(two_cell_types, cell_type_key="kind").uns
    name = "K562_GENE07+ctrl_1+1"
    genes = list(two_cell_types.var_names)
    # GENE05: expressed by controls, not under GENE07. GENE12: by nobody. GENE09: not by controls.
    assert 5 not in uns["non_zeros_gene_idx"][name]
    assert 5 not in uns["non_dropout_gene_idx"][name]
    assert 12 not in uns["non_zeros_gene_idx"][name]
    assert 12 in uns["non_dropout_gene_idx"][name]
    assert 9 in uns["non_zeros_gene_idx"][name]
    order = uns["rank_genes_groups_cov_all"][name]
    nonzero = [gene for gene in order if genes.index(gene) in uns["non_zeros_gene_idx"][name]]
    assert list(uns["top_non_zero_de_20"][name]) == nonzero[:20]
    kept = [gene for gene in order if genes.index(gene) in uns["non_dropout_gene_idx"][name]]
    assert list(uns["top_non_dropout_de_20"][name]) == kept[:20]
    assert not any(key.endswith("ctrl_1") for key in uns["top_non_zero_de_20"])


def test_a_combination_has_one_name_whatever_the_order_of_its_genes(converted, two_cell_types):
    made = converted(two_cell_types, cell_type_key="kind")
    assert "GENE03+GENE11" in set(made.obs["condition"])
    assert "K562_GENE03+GENE11_1+1" in made.uns["rank_genes_groups_cov_all"]


def test_the_screen_reader_reads_what_conversion_wrote(converted, counts, tmp_path):
    converted()
    screen = open_screen(tmp_path / "out.h5ad")
    assert list(screen.genes) == list(counts.var_names)
    assert list(screen.cells) == list(counts.obs_names)
    np.testing.assert_array_equal(
        screen.counts(np.array([3, 50])).toarray(), counts.X[[3, 50]].toarray()
    )


def test_without_a_batch_column_all_cells_are_one_batch(converted):
    assert set(converted(batch_key=None).obs["batch"]) == {"batch0"}


def test_a_column_with_one_of_our_names_is_replaced_and_reported(counts, tmp_path):
    counts.obs["condition"] = "stimulated"
    counts.write_h5ad(tmp_path / "raw.h5ad")
    about = convert(tmp_path / "raw.h5ad", "tiny", settings(), tmp_path / "out.h5ad")
    assert about["replaced_columns"] == ["obs.condition"]
    assert "stimulated" not in set(ad.read_h5ad(tmp_path / "out.h5ad").obs["condition"])


def test_gene_names_from_a_column_become_the_index_and_the_former_index_is_kept(converted, counts):
    counts.var["symbol"] = counts.var_names
    counts.var_names = [f"ENSG{i}" for i in range(counts.n_vars)]
    var = converted(counts, gene_name_key="symbol").var
    assert list(var.index) == list(var["gene_name"]) == list(counts.var["symbol"])
    assert list(var["gene_id"]) == list(counts.var_names)


@pytest.mark.parametrize("key", ["gene_id", "gene_ids", "ensembl_id"])
@pytest.mark.parametrize("gene_name_key", [None, "symbol"])
def test_gene_ids_in_a_column_stay_as_they_are(converted, counts, key, gene_name_key):
    ids = [f"ENSG{i:011d}" for i in range(counts.n_vars)]
    counts.var[key] = ids
    counts.var["symbol"] = counts.var_names
    if gene_name_key:
        counts.var_names = [f"row{i}" for i in range(counts.n_vars)]
    made = converted(counts, gene_name_key=gene_name_key)
    assert list(made.var[key]) == ids
    assert list(made.var["gene_name"]) == list(counts.var["symbol"])
    assert json.loads(made.uns["vcpipe"])["replaced_columns"] == []
    if gene_name_key:
        former = "former_index" if key == "gene_id" else "gene_id"
        assert list(made.var[former]) == list(counts.var_names)


def test_counts_in_a_layer_are_found_there(converted, counts):
    raw = counts.X.toarray()
    counts.layers["raw"] = counts.X.copy()
    counts.X = counts.X * 0.5
    np.testing.assert_array_equal(
        converted(counts, counts_layer="raw").layers["counts"].toarray(), raw
    )


def test_cells_of_unmeasured_targets_are_kept_or_dropped_as_asked(converted, counts):
    counts.obs["target_gene"] = counts.obs["target_gene"].cat.rename_categories({"GENE03": "ABCD"})
    assert "ABCD+ctrl" in set(converted(counts, unknown_targets="keep").obs["condition"])
    dropped = converted(counts, unknown_targets="drop")
    about = json.loads(dropped.uns["vcpipe"])
    assert dropped.n_obs == 104
    assert about["unknown_targets"] == ["ABCD"]
    assert about["dropped_cells"] == {"ABCD+ctrl": 16}
    kept = counts[(counts.obs["target_gene"] != "ABCD").to_numpy()]
    np.testing.assert_array_equal(dropped.layers["counts"].toarray(), kept.X.toarray())


@pytest.mark.parametrize("name", ["β-actin", "X" * 500])
def test_names_of_any_letters_and_length_come_back_in_rankings(converted, counts, name):
    counts.var_names = [name, *counts.var_names[1:]]
    ranked = converted(counts).uns["rank_genes_groups_cov_all"]
    for genes in ranked.values():
        assert set(genes) == set(counts.var_names)


def test_one_long_name_does_not_lengthen_the_others():
    short, long = (encoded(np.array(["A", "B" * length])) for length in (60, 500))
    assert short.dtype.itemsize == 60
    assert h5py.check_string_dtype(long.dtype).length is None


def test_an_error_midway_leaves_the_former_file_and_nothing_else(converted, tmp_path, monkeypatch):
    converted()
    before = (tmp_path / "out.h5ad").read_bytes()
    monkeypatch.setattr(gears, "write_rankings", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        converted()
    assert (tmp_path / "out.h5ad").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5ad", "raw.h5ad"]


def test_a_killed_conversion_leaves_no_result_and_a_rerun_succeeds(counts, tmp_path):
    counts.write_h5ad(tmp_path / "raw.h5ad")
    dies = (
        "import os, sys; from pathlib import Path; from vcpipe.config.gears import Conversion; "
        "from vcpipe.data import gears; gears.write_rankings = lambda *_: os.kill(os.getpid(), 9); "
        "raw, out = map(Path, sys.argv[1:]); gears.convert(raw, 'tiny', Conversion(), out)"
    )
    paths = (tmp_path / "raw.h5ad", tmp_path / "out.h5ad")
    ended = subprocess.run(
        [sys.executable, "-c", dies, *paths], env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert ended.returncode == -9
    assert not (tmp_path / "out.h5ad").exists()
    convert(paths[0], "tiny", settings(), paths[1])
    assert len(open_screen(tmp_path / "out.h5ad").cells) == 120


def test_a_bad_value_in_the_last_chunk_leaves_no_file(counts, tmp_path):
    dense = counts.X.toarray()
    dense[119, 4] = 0.5
    counts.X = sp.csr_matrix(dense)
    counts.write_h5ad(tmp_path / "raw.h5ad")
    with pytest.raises(InputError, match="cell 'cell119', gene 'GENE04'"):
        convert(tmp_path / "raw.h5ad", "tiny", settings(), tmp_path / "new" / "out.h5ad", 50)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_cell_without_counts_is_named(converted, counts):
    dense = counts.X.toarray()
    dense[5] = 0
    counts.X = sp.csr_matrix(dense)
    with pytest.raises(InputError, match="cell 'cell005' has no counts"):
        converted(counts)


def test_row_starts_are_int64_once_int32_cannot_count_the_entries():
    assert index_dtype(2**31 - 1) is np.int32
    assert index_dtype(2**31) is np.int64


def test_the_script_writes_the_same_facts_into_the_file_and_beside_it(counts, tmp_path, capsys):
    counts.write_h5ad(tmp_path / "raw.h5ad")
    main(
        [
            f"--cells={tmp_path}/raw.h5ad",
            "--name=tiny",
            f"--out={tmp_path}/out.h5ad",
            f"--report={tmp_path}/conversion.json",
            "normalisation.target_sum=1e6",
        ]
    )
    about = json.loads((tmp_path / "conversion.json").read_text())
    assert about == open_screen(tmp_path / "out.h5ad").about
    assert about["settings"]["normalisation"]["target_sum"] == 1e6
    assert (about["num_cells"], about["num_genes"], about["num_perturbations"]) == (120, 30, 5)
    assert "120 cells (40 control) × 30 genes" in capsys.readouterr().out


def test_the_script_says_what_it_found_renamed_and_left_out(counts, tmp_path, capsys):
    labels = counts.obs["target_gene"].astype(str)
    counts.obs["guide"] = pd.Categorical([*(labels + "_pDS1")[:-1], "unassigned"])
    del counts.obs["target_gene"]
    counts.obs["kind"] = "H1_ESC"
    counts.write_h5ad(tmp_path / "raw.h5ad")
    main(
        [
            *(f"--cells={tmp_path}/raw.h5ad", "--name=tiny", f"--out={tmp_path}/out.h5ad"),
            *(f"--report={tmp_path}/conversion.json", "dataset.target_pattern=([^_]+)_.*"),
            *("dataset.drop_labels=[unassigned]", "dataset.cell_type_key=kind"),
            "dataset.unsafe_cell_types=replace",
        ]
    )
    printed = capsys.readouterr().out
    assert "found by its labels: perturbation_key guide, control_label non-targeting" in printed
    assert "cell types renamed: H1_ESC -> H1-ESC" in printed
    assert "left out: {'unassigned': 1}" in printed
    about = open_screen(tmp_path / "out.h5ad").about
    assert about["detected"] == {"perturbation_key": "guide", "control_label": "non-targeting"}
    assert about["settings"]["dataset"]["perturbation_key"] == "guide"
    assert about["settings"]["dataset"]["control_label"] == "non-targeting"
    assert about["renamed_cell_types"] == {"H1_ESC": "H1-ESC"}
    assert about["dropped_labels"] == {"unassigned": 1}
    assert (about["num_cells"], about["dropped_cells"]) == (119, {})


@pytest.mark.skipif(not JURKAT.exists(), reason="needs shared/data")
@pytest.mark.parametrize(("policy", "num_perturbations"), [("keep", 20), ("drop", 6)])
def test_a_real_screen_converts_with_targets_outside_its_genes(tmp_path, policy, num_perturbations):
    config = settings(unknown_targets=policy, cell_type_key="celltype")
    about = convert(JURKAT, "jurkat", config, tmp_path / "out.h5ad")
    assert about["num_perturbations"] == num_perturbations
    assert len(about["unknown_targets"]) == 14
    raw = ad.read_h5ad(JURKAT)
    with h5py.File(tmp_path / "out.h5ad") as file:
        obs = ad.io.read_elem(file["obs"])
        counts = ad.io.read_elem(file["layers/counts"])
    assert counts.sum() == raw[obs.index].X.sum()


@pytest.mark.skipif(not JURKAT.exists(), reason="needs shared/data")
def test_a_real_screen_is_refused_by_default_with_every_unmeasured_target(tmp_path):
    with pytest.raises(InputError, match=r"14 perturbed genes.*DOK2, EGR2, EGR4.*RUNX2, ZAP70"):
        convert(JURKAT, "jurkat", settings(), tmp_path / "out.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_the_raw_counts_are_never_replaced_by_the_conversion(counts, tmp_path):
    counts.write_h5ad(tmp_path / "counts.h5ad")
    before = (tmp_path / "counts.h5ad").read_bytes()
    with pytest.raises(InputError, match="--out is the input"):
        convert(tmp_path / "counts.h5ad", "tiny", Conversion(), tmp_path / "counts.h5ad")
    assert (tmp_path / "counts.h5ad").read_bytes() == before
