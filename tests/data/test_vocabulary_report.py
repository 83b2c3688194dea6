import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from scripts import build_vocabulary, check_corpus, fit_preprocessing, prepare_cells
from vcpipe.data.gene_embeddings import read_aligned
from vcpipe.data.vocabulary_files import read_vocabularies
from vcpipe.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def atlas(counts, tmp_path):
    """The tiny cells as an atlas: two genes renamed, the others in turned order."""
    cells = counts[::-1, ::-1].copy()
    cells.var_names = ["<pad>" if name == "GENE00" else name for name in cells.var_names]
    cells.obs["kind"] = np.where(np.arange(len(cells)) % 2, "T", "B")
    cells.write_h5ad(tmp_path / "atlas.h5ad")
    rna = {"paths": [str(tmp_path / "atlas.h5ad")]}
    return {"tiny_atlas": {"rna": rna, "cell_type_key": "kind"}}


def build(folder, *arguments):
    build_vocabulary.main([f"--out={folder}", *arguments])
    return read_vocabularies(folder)


def test_screens_and_atlases_share_a_vocabulary(screen, atlas, tmp_path, capsys):
    (tmp_path / "atlases.yaml").write_text(yaml.safe_dump(atlas))
    pd.DataFrame([[0.5]], index=["GENE07"]).to_csv(tmp_path / "e.csv")
    (tmp_path / "places.csv").write_text("gene,chr\nGENE01,2\nGENE02,MT\n")
    screens, atlases = f"--screens={screen.path}", f"--atlases={tmp_path}/atlases.yaml"
    special = "special_tokens.others=[<unk>]"
    with pytest.raises(InputError, match="<pad> are names in the data and special tokens"):
        build(tmp_path / "out", screens, atlases)
    assert not (tmp_path / "out").exists()
    found = build(
        tmp_path / "out",
        *(screens, atlases, "join=intersection", special),
        *(f"gene_embeddings.human={tmp_path}/e.csv", f"gene_chromosomes={tmp_path}/places.csv"),
    )
    assert found.features(found.genes["human"]) == [f"GENE{i:02d}" for i in range(1, 30)]
    assert set(found.batches.ids) == {"b0", "b1", "tiny_atlas"}
    assert {"B", "T"} < set(found.cell_types.ids)
    fates = pd.read_csv(tmp_path / "out/genes.tsv", sep="\t", keep_default_na=False)
    assert len(fates) == 60
    unknown = fates[fates["fate"] == "missing"]
    assert unknown[["dataset", "gene", "token_id"]].values.tolist() == [
        ["tiny", "GENE00", -1],
        ["tiny_atlas", "<pad>", -1],
    ]
    table = pd.read_csv(tmp_path / "out/coverage.tsv", sep="\t")
    assert table["known"].tolist() == [29, 29]
    assert table["without_chromosome"].tolist() == [27, 27]
    vectors, has_one = read_aligned(
        tmp_path / "out/embeddings/human.safetensors", found.genes["human"]
    )
    assert vectors[has_one].tolist() == [[0.5]]
    assert f"digest {found.digest}" in capsys.readouterr().out


def test_a_wrong_atlas_is_named(tmp_path):
    with pytest.raises(InputError, match=r"pbmc\.rna\.path is not a setting"):
        build(tmp_path / "out", "--atlases={pbmc: {rna: {path: x.h5ad}}}")


def test_a_corpus_needs_cells(tmp_path):
    with pytest.raises(InputError, match="no --screens and no --atlases"):
        build(tmp_path / "out")


@pytest.mark.skipif(not (SHARED / "genes").exists(), reason="no shared data")
@pytest.mark.filterwarnings("ignore::anndata.OldFormatWarning")  # the file of PBMC is old
def test_paired_mouse_cells_and_human_cells_share_human_genes(tmp_path):
    atlases = {
        "snareseq": {
            "rna": {"paths": [str(SHARED / "snareseq_mop_rna_counts.h5ad")]},
            "atac": {"paths": [str(SHARED / "snareseq_mop_atac_counts.h5ad")]},
            "species": "mouse",
            "orthologs": str(SHARED / "genes/human2mouse_ensembl105.csv"),
            "batch_key": "batch",
            "cell_type_key": "cell_type",
        },
        "pbmc": {"rna": {"paths": [str(SHARED / "scvi_pbmc10k_protein.h5ad")]}},
    }
    found = build(
        tmp_path / "out",
        f"--atlases={yaml.safe_dump(atlases, default_flow_style=True)}",
        f"gene_chromosomes={SHARED}/genes/gene_chromosome_map.tsv",
    )
    assert list(found.genes) == ["human"]
    assert len(found.features(found.peaks)) == 25_734
    assert len(found.batches) == 13
    table = pd.read_csv(tmp_path / "out/coverage.tsv", sep="\t").set_index(["dataset", "modality"])
    assert table.loc[("snareseq", "rna"), ["features", "unnamed", "known"]].tolist() == [
        1676,
        125,
        1551,
    ]
    # Cells of one species alone: what both have is what the vocabulary of both shares.
    both = set(pd.read_csv(tmp_path / "out/genes.tsv", sep="\t").query("token_id >= 0")["token"])
    assert both == set(found.features(found.genes["human"]))


def test_pairs_and_orthologs_of_atlases_are_reported(counts, tmp_path, capsys):
    """Of 120 and 100 cells 100 are paired; of 30 genes all but two have a name in mouse."""
    counts.write_h5ad(tmp_path / "rna.h5ad")
    peaks = counts[20:, :4].copy()
    peaks.var_names = [f"chr1:{start}-{start + 50}" for start in range(0, 400, 100)]
    peaks.write_h5ad(tmp_path / "atac.h5ad")
    (tmp_path / "names.csv").write_text(
        "".join(f"Gene{max(i, 1):02d},GENE{i:02d}\n" for i in range(28)) + ",GENE28\n"
    )
    atlas = {
        "rna": {"paths": [str(tmp_path / "rna.h5ad")]},
        "atac": {"paths": [str(tmp_path / "atac.h5ad")]},
        "orthologs": str(tmp_path / "names.csv"),
        "ortholog_species": "mouse",
    }
    build(tmp_path / "out", f"--atlases={json.dumps({'a': atlas})}")
    pairs = pd.read_csv(tmp_path / "out/pairs.tsv", sep="\t")
    assert pairs.values.tolist() == [["a", 120, 100, 100]]
    table = pd.read_csv(tmp_path / "out/orthologs.tsv", sep="\t", keep_default_na=False)
    assert len(table) == 30
    found = table.set_index("gene")
    assert found.loc[["GENE00", "GENE01", "GENE28", "GENE29"], "ortholog"].tolist() == [
        *("Gene01", "Gene01", "", ""),
    ]
    assert table["fate"].value_counts().to_dict() == {
        **{"one_to_one": 26, "added": 2},
        **{"none": 1, "unknown": 1},
    }
    shown = capsys.readouterr().out
    assert "one_to_one" in shown
    assert "paired" in shown


def test_screens_have_neither_pairs_nor_orthologs(screen, tmp_path):
    build(tmp_path / "out", f"--screens={screen.path}")
    assert not {"pairs.tsv", "orthologs.tsv"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_an_atlas_of_peaks_alone_reaches_the_report_of_its_corpus(counts, tmp_path):
    peaks = counts.copy()
    peaks.var_names = [f"chr1:{start}-{start + 50}" for start in range(0, 3000, 100)]
    peaks.obs["kind"] = np.where(np.arange(len(peaks)) % 2, "T", "B")
    peaks.write_h5ad(tmp_path / "atac.h5ad")
    atlas = {"atac": {"paths": [str(tmp_path / "atac.h5ad")]}, "cell_type_key": "kind"}
    atlases = f"--atlases={json.dumps({'a': atlas})}"
    vocabulary, fitted, store = (tmp_path / name for name in ("vocabulary", "fitted", "store"))
    build(vocabulary, atlases)
    assert pd.read_csv(vocabulary / "coverage.tsv", sep="\t")["without_chromosome"].tolist() == [0]
    made = ["--vocabulary", str(vocabulary), atlases]
    fit_preprocessing.main([*made, f"--out={fitted}"])
    prepare_cells.main([*made, f"--fitted={fitted}", f"--out={store}", "group_by=[cell_type]"])
    check_corpus.main([f"--fitted={fitted}", f"--store={store}", f"--out={tmp_path}/report"])
    cells = pd.read_csv(tmp_path / "report/cells.tsv", sep="\t")
    assert set(cells["source"]) == {"a"}
