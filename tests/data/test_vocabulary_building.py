import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from vcpipe.config.vocabulary import SpecialTokens, Vocabulary, check_special_values
from vcpipe.data.feature_ids import feature_ids
from vcpipe.data.sources.source import Features
from vcpipe.data.vocabularies import label_ids
from vcpipe.data.vocabulary_building import build_vocabularies
from vcpipe.data.vocabulary_files import read_vocabularies, write_vocabularies
from vcpipe.data.vocabulary_report import coverage, write_fates
from vcpipe.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SPECIAL = ["<cls>", "<pad>", "<mask>", "<eoc>"]


@dataclass(frozen=True)
class NamedCells:
    """A source without counts: names and labels are all that a vocabulary is made of."""

    features: dict
    path: str = "a.h5ad"
    dataset: str = "atlas"
    species: str = "human"
    labels: pd.DataFrame = field(default_factory=pd.DataFrame)


def genes(names, path="a.h5ad", ids=None, **settings):
    ids = None if ids is None else np.array(ids, dtype=str)
    return NamedCells({"rna": Features(np.array(list(names), dtype=str), ids)}, path, **settings)


def peaks(names, path="a.h5ad"):
    return NamedCells({"atac": Features(np.array(names, dtype=str))}, path)


def labelled(batches, cell_types, path="a.h5ad"):
    labels = pd.DataFrame({"batch": batches, "cell_type": cell_types}, dtype="category")
    return genes(["A"], path, labels=labels)


def build(*sources, **settings):
    return build_vocabularies(list(sources), Vocabulary(**settings))


def names(vocabulary):
    return vocabulary.names()[len(SPECIAL) :]


def write_vocab(path, tokens):
    path.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return str(path)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def paired(order, path):
    """Some genes, peaks and labels in a given order."""
    gene_names = np.array(["STAT1", "TP53", "MYC", "GATA1"])
    peak_names = np.array(["chr2:5-9", "chr10:1-4", "chrX:3-8", "chr2:1-3"])
    labels = pd.DataFrame({"batch": list("bacb"), "cell_type": ["T", "B", None, "NK"]})
    return NamedCells(
        {"rna": Features(gene_names[order]), "atac": Features(peak_names[order])},
        path,
        labels=labels.iloc[order].astype("category"),
    )


def test_special_tokens_come_first_and_names_are_sorted():
    found = build(paired([2, 0, 3, 1], "a.h5ad"))
    assert found.genes["human"].names() == [*SPECIAL, "GATA1", "MYC", "STAT1", "TP53"]
    assert names(found.peaks) == ["chr2:1-3", "chr2:5-9", "chr10:1-4", "chrX:3-8"]
    assert found.chromosomes.names() == [*SPECIAL, "chr2", "chr10", "chrX"]
    assert found.batches.ids == {"a": 0, "b": 1, "c": 2}
    assert found.cell_types.ids == {"B": 0, "NK": 1, "T": 2}


def test_permuted_genes_peaks_cells_and_files_give_the_same_bytes(tmp_path):
    extra = genes(["TP53", "EGR1"], "b.h5ad", ids=["ENSG00000141510", "ENSG00000120738"])
    for number, order in enumerate(([0, 1, 2, 3], [3, 1, 0, 2])):
        sources = [paired(order, "a.h5ad"), extra][:: 1 - 2 * number]
        found = build(*sources)
        write_vocabularies(tmp_path / str(number), found)
        write_fates(tmp_path / str(number), sources, found, Vocabulary())
    one, other = (files_of(tmp_path / str(number)) for number in range(2))
    assert one == other
    assert {"vocab.json", "species/human.csv", "genes.tsv", "coverage.tsv"} <= set(one)


def test_ids_do_not_depend_on_the_order_in_which_python_walks_a_set():
    program = (
        "import numpy as np, pandas as pd\n"
        "from types import SimpleNamespace\n"
        "from vcpipe.config.vocabulary import Vocabulary\n"
        "from vcpipe.data.sources.source import Features\n"
        "from vcpipe.data.vocabulary_building import build_vocabularies\n"
        "def cells(names, path):\n"
        "    features = {'rna': Features(np.array(sorted(names, key=hash)))}\n"
        "    labels = pd.DataFrame({'batch': sorted(names, key=hash)})\n"
        "    return SimpleNamespace(features=features, path=path, species='human', labels=labels)\n"
        "old, new = {'YARS', 'MYC', 'SARS'}, {'YARS1', 'MYC', 'SARS1'}\n"
        "print(build_vocabularies([cells(old, 'a'), cells(new, 'b')], Vocabulary()).digest)\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "workflow"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(digests) == 1


def test_intersection_keeps_what_all_files_have():
    sources = [genes("ABC", "a"), genes("BCD", "b")]
    assert names(build(*sources).genes["human"]) == list("ABCD")
    assert names(build(*sources, join="intersection").genes["human"]) == list("BC")


@pytest.mark.parametrize("join", ["union", "intersection"])
def test_files_with_disjoint_genes_are_refused_with_both_counts(join):
    with pytest.raises(InputError, match=r"(?s)a\.h5ad.*\b2\b.*\b3\b.*Ensembl ids"):
        build(genes(["X1", "X2"]), genes(["Y1", "Y2", "Y3"], "b.h5ad"), join=join)


def test_a_gene_that_files_call_by_different_names_is_one_token():
    old = genes(["YARS", "MYC"], "old")
    new = genes(["YARS1", "MYC"], "new")
    by_id = genes(["ENSG00000134684.12", "ENSG00000136997"], "ids")
    found = build(old, new, by_id)
    assert names(found.genes["human"]) == ["MYC", "YARS1"]
    for source in (old, new, by_id):
        ids, _ = feature_ids(source, found, Vocabulary())["rna"]
        assert sorted(ids) == [4, 5]
    assert names(build(old, new, gene_aliases=False).genes["human"]) == ["MYC", "YARS", "YARS1"]


def test_two_names_in_one_file_stay_two_genes():
    assert names(build(genes(["YARS", "YARS1"])).genes["human"]) == ["YARS", "YARS1"]


def test_human_aliases_are_not_applied_to_mouse_genes():
    mouse = [
        genes(["T", "Myc"], "a", species="mouse"),
        genes(["TBXT", "Myc"], "b", species="mouse"),
    ]
    assert names(build(*mouse).genes["mouse"]) == ["Myc", "T", "TBXT"]


def test_files_meet_by_the_ensembl_ids_that_one_of_them_knows():
    symbols = genes(["Myc", "Sst"], "a", ["ENSMUSG00000022346", "ENSMUSG00000004366"], species="m")
    ids = genes(["ENSMUSG00000004366.8"], "b", species="m")
    found = build(symbols, ids)
    assert names(found.genes["m"]) == ["Myc", "Sst"]
    assert feature_ids(ids, found, Vocabulary())["rna"][0].tolist() == [5]


def test_each_species_has_ids_of_its_own_and_the_same_special_tokens():
    found = build(genes("AB", "h"), genes("bcd", "m", species="mouse"))
    assert found.genes["human"].ids["A"] == found.genes["mouse"].ids["b"] == 4
    with pytest.raises(InputError, match=r"no vocabulary for the genes of 'rat'.*human, mouse"):
        feature_ids(genes("A", species="rat"), found, Vocabulary())


def test_a_panel_keeps_its_genes_by_symbol_or_ensembl_id(tmp_path):
    source = genes(["MYC", "YARS1", "GATA1"])
    (tmp_path / "ids.csv").write_text("Ensembl_ID,x\nENSG00000136997,1\nENSG00000999999,2\n")
    (tmp_path / "names.txt").write_text("YARS\nMYC\n")
    found = build(source, panel=str(tmp_path / "ids.csv"))
    assert names(found.genes["human"]) == ["MYC"]
    named = build(source, panel=str(tmp_path / "names.txt"))
    assert names(named.genes["human"]) == ["MYC", "YARS1"]
    config = Vocabulary(panel=str(tmp_path / "ids.csv"), min_gene_match=1)
    assert feature_ids(source, found, config)["rna"][0].tolist() == [4, -1, -1]


def test_a_panel_of_another_species_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("Sst\nVip\n")
    with pytest.raises(InputError, match=r"none of the 2 genes.*among the 1 human genes"):
        build(genes(["MYC"]), panel=str(tmp_path / "names.txt"))


def test_a_panel_beside_a_given_vocabulary_is_refused():
    with pytest.raises(ValidationError, match="a given vocabulary is kept as it is"):
        Vocabulary(panel="p.csv", genes="vocab.json")


def test_a_vocabulary_of_a_checkpoint_is_kept_as_it_is(tmp_path):
    tokens = ["MYC", "A1BG", "<pad>", "YARS1", "<cls>", "<eoc>"]
    path = write_vocab(tmp_path / "vocab.json", tokens)
    source = genes(["YARS", "A1BG", "NEW1"], ids=["", "ENSG00000121410", ""])
    found = build(source, genes=path)
    assert found.genes["human"].names() == tokens
    assert found.gene_ids["human"]["A1BG"] == "ENSG00000121410"
    ids, fates = feature_ids(source, found, Vocabulary(genes=path))["rna"]
    assert ids.tolist() == [3, 1, -1]
    assert ids.dtype == np.int32
    assert fates["fate"].tolist() == ["previous_symbol", "exact", "missing"]
    write_vocabularies(tmp_path / "out", found)
    assert json.loads((tmp_path / "out/vocab.json").read_text()) == json.loads(
        Path(path).read_text()
    )


@pytest.mark.parametrize("part", ["genes", "peaks", "chromosomes"])
def test_a_given_vocabulary_needs_padding_and_cls(part, tmp_path):
    path = write_vocab(tmp_path / "v.json", ["<pad>", "chr1:1-2"])
    with pytest.raises(InputError, match=r"v\.json lacks <cls>"):
        build(genes("A"), **{part: path})


@pytest.mark.parametrize("part", ["genes", "peaks"])
def test_a_special_token_that_no_setting_names_is_no_gene_and_no_peak(part, tmp_path):
    path = write_vocab(tmp_path / "v.json", [*SPECIAL, "<eos>", "<unk>", "chr1:1-2"])
    with pytest.raises(InputError, match=r"v\.json has <eos>, <unk>.*special_tokens\.others"):
        build(genes("A"), **{part: path})
    others = {"others": ["<eoc>", "<eos>", "<unk>"]}
    found = build(genes("A"), **{part: path}, special_tokens=others)
    assert found.features(found.genes["human"] if part == "genes" else found.peaks) == ["chr1:1-2"]


def test_a_byte_order_mark_is_no_part_of_a_vocabulary(tmp_path):
    """Excel puts one before everything that it writes as CSV UTF-8."""
    text = "gene_id,gene_name,token\n<pad>,,0\n<cls>,,1\nMYC,MYC,2\n"
    (tmp_path / "v.csv").write_text(text, encoding="utf-8-sig")
    (tmp_path / "v.json").write_text('{"<pad>": 0, "<cls>": 1, "MYC": 2}', encoding="utf-8-sig")
    (tmp_path / "places.csv").write_text("gene,chromosome\nMYC,8\n", encoding="utf-8-sig")
    places = str(tmp_path / "places.csv")
    for file in ("v.csv", "v.json"):
        found = build(genes(["MYC"]), genes=str(tmp_path / file), gene_chromosomes=places)
        assert found.genes["human"].names() == ["<pad>", "<cls>", "MYC"]
        assert found.gene_chromosome == {"human": {"MYC": "chr8"}}


def test_several_species_need_several_files(tmp_path):
    path = write_vocab(tmp_path / "v.json", [*SPECIAL, "A"])
    both = genes("A", "h"), genes("A", "m", species="mouse")
    with pytest.raises(InputError, match=r"genes is one file, but the corpus has.*human, mouse"):
        build(*both, genes=path)
    with pytest.raises(InputError, match="no file for mouse; it has human"):
        build(*both, genes={"human": path})
    other = write_vocab(tmp_path / "w.json", ["A", *SPECIAL])
    with pytest.raises(InputError, match=r"<cls> has different ids.*0 in human, 1 in mouse"):
        build(*both, genes={"human": path, "mouse": other})


def test_a_vocabulary_that_knows_too_few_genes_is_refused(tmp_path):
    path = write_vocab(tmp_path / "v.json", [*SPECIAL, "MYC"])
    source, config = genes(["MYC", "Sst", "Vip"]), Vocabulary(genes=path)
    found = build_vocabularies([source], config)
    with pytest.raises(InputError, match=r"a\.h5ad.*33\.3% of its 3 genes.*Sst, Vip.*species"):
        feature_ids(source, found, config)
    strict = Vocabulary(genes=path, min_gene_match=0.3, unknown_genes="error")
    with pytest.raises(InputError, match="lacks 2 of its 3 genes: Sst, Vip"):
        feature_ids(source, found, strict)


def test_genes_without_an_ortholog_are_in_no_vocabulary_and_no_mistake():
    source = genes(["MYC", "", ""])
    found, config = build(source), Vocabulary(min_gene_match=1, unknown_genes="error")
    ids, fates = feature_ids(source, found, config)["rna"]
    assert ids.tolist() == [4, -1, -1]
    row = coverage(source, "rna", fates)
    assert (row["features"], row["unnamed"], row["known"], row["share"]) == (3, 2, 1, 1.0)


def test_a_gene_named_like_a_special_token_never_gets_its_id():
    found = build(genes(["MYC", "GATA1"]))
    source = genes(["<pad>", "MYC", "GATA1"])
    assert feature_ids(source, found, Vocabulary())["rna"][0].tolist() == [-1, 5, 4]


def test_given_peaks_match_in_any_spelling(tmp_path):
    path = write_vocab(tmp_path / "atac.json", ["chr1:5-9", *SPECIAL, "chrX-1-4"])
    source = peaks(["chrX_1_4", "chr1-5-9"])
    found = build(source, peaks=path)
    ids, _ = feature_ids(source, found, Vocabulary(peaks=path))["atac"]
    assert ids.tolist() == [5, 0]
    assert found.chromosome_ids("atac", "human").tolist() == [4, 0, 1, 2, 3, 5]


def test_peaks_that_overlap_share_a_token_and_exact_ones_come_first(tmp_path):
    first, second = peaks(["chr1:10-20", "chr1:30-40"]), peaks(["chr1:15-35"], "b.h5ad")
    found = build(first, second)
    assert names(found.peaks) == ["chr1:10-35", "chr1:30-40"]
    assert feature_ids(first, found, Vocabulary())["atac"][0].tolist() == [4, 5]
    assert feature_ids(second, found, Vocabulary())["atac"][0].tolist() == [4]
    apart = build(first, second, peak_match="exact")
    assert names(apart.peaks) == ["chr1:10-20", "chr1:15-35", "chr1:30-40"]
    path = write_vocab(tmp_path / "atac.json", [*SPECIAL, "chr1:1-90", "chr1:10-20"])
    config = Vocabulary(peaks=path)
    ids, fates = feature_ids(first, build(first, peaks=path), config)["atac"]
    assert ids.tolist() == [5, 4]
    assert fates["fate"].tolist() == ["exact", "overlap"]


def test_files_without_a_common_peak_are_refused():
    files = peaks(["chr1:1-2"]), peaks(["chr1:3-4", "chr1:5-6"], "b.h5ad")
    with pytest.raises(InputError, match=r"no peak is in all 2 files .1, 2 peaks"):
        build(*files, join="intersection")
    assert len(names(build(*files).peaks)) == 3


def test_peaks_of_several_species_are_refused():
    mouse = NamedCells({"atac": Features(np.array(["chr1:1-2"]))}, "b.h5ad", species="mouse")
    with pytest.raises(InputError, match="peaks of human, mouse"):
        build(peaks(["chr1:1-2"]), mouse)


def test_given_peaks_that_are_none_are_refused(tmp_path):
    path = write_vocab(tmp_path / "atac.json", [*SPECIAL, "MYC"])
    with pytest.raises(InputError, match=r"atac\.json: 1 of 1 names are no peaks: 'MYC'"):
        build(genes("A"), peaks=path)


def test_labels_that_a_given_vocabulary_lacks_are_named(tmp_path):
    path = write_vocab(tmp_path / "types.json", ["T", "B"])
    assert build(labelled(["x"], ["B"]), cell_types=path).cell_types.ids == {"T": 0, "B": 1}
    with pytest.raises(InputError, match=r"cell_type .*lacks: NK; it knows T, B"):
        build(labelled(["x", "x"], ["NK", "T"]), cell_types=path)
    with pytest.raises(InputError, match=r"batch .*lacks: y"):
        build(labelled(["y", "T"], ["B", "B"]), batches=path)


def test_an_unknown_label_is_never_id_zero():
    vocabulary = build(labelled(["a", "b"], ["T", None])).batches
    assert label_ids(["b", None, float("nan"), "a"], vocabulary, "it").tolist() == [1, -1, -1, 0]
    with pytest.raises(InputError, match="it has labels that the vocabulary lacks: z"):
        label_ids(["z"], vocabulary, "it")


def test_genes_and_peaks_share_the_spelling_of_chromosomes(tmp_path):
    (tmp_path / "places.tsv").write_text(
        "Approved_symbol\tChromosome\nMYC\t8\nMT-ND1\tmitochondria\nYARS1\t1\nEGR1\treserved\n"
    )
    source = NamedCells(
        {
            "rna": Features(np.array(["MYC", "MT-ND1", "YARS", "EGR1"])),
            "atac": Features(np.array(["chr8:1-2", "chrM:5-6"])),
        }
    )
    settings = {"gene_chromosomes": str(tmp_path / "places.tsv")}
    found = build(source, **settings)
    assert names(found.chromosomes) == ["chr1", "chr8", "chrM"]
    assert found.gene_chromosome["human"] == {"MYC": "chr8", "MT-ND1": "chrM", "YARS": "chr1"}
    # EGR1 is on no chromosome; that is no padding.
    assert found.chromosome_ids("rna", "human").tolist() == [0, 1, 2, 3, -1, 6, 5, 4]
    with_unknown = build(source, special_tokens={"others": ["<unk>"]}, **settings)
    assert with_unknown.gene_chromosome["human"]["EGR1"] == "<unk>"
    assert with_unknown.chromosome_ids("rna", "human")[4] == 3
    assert names(with_unknown.chromosomes) == ["chr1", "chr8", "chrM"]


def test_given_chromosomes_keep_their_numbers_and_must_cover_the_corpus(tmp_path):
    path = write_vocab(tmp_path / "chr.json", ["2", "<pad>", "<cls>", "1"])
    found = build(peaks(["chr1:1-2"]), chromosomes=path)
    assert found.chromosome_ids("atac", "human").tolist() == [2, 1, -1, -1, 3]
    with pytest.raises(InputError, match=r"chr\.json lacks chrX"):
        build(peaks(["chrX:1-2"]), chromosomes=path)
    twice = write_vocab(tmp_path / "twice.json", ["1", "<pad>", "<cls>", "chr1"])
    with pytest.raises(InputError, match="a chromosome under two names"):
        build(peaks(["chr1:1-2"]), chromosomes=twice)


def test_chromosomes_of_other_genes_are_refused(tmp_path):
    (tmp_path / "gene2chr.json").write_text('{"Sst": "chr16"}')
    with pytest.raises(InputError, match="a chromosome for none of the 1 human genes"):
        build(genes(["MYC"]), gene_chromosomes=str(tmp_path / "gene2chr.json"))
    with pytest.raises(InputError, match="gene_chromosomes names 'mouse'"):
        build(genes(["MYC"]), gene_chromosomes={"mouse": str(tmp_path / "gene2chr.json")})


@pytest.mark.parametrize(
    ("pad", "mask", "n_bins", "expected"),
    [
        (-2, -1, 51, []),
        (2, 3, 2, []),
        (10, 11, 11, ["x.pad.value is 10, which is also a bin"]),
        (-1, 50, 51, ["x.mask.value is 50, which is also a bin"]),
        (-1, -1, 51, ["x.mask.value is -1, and so is x.pad.value"]),
    ],
)
def test_values_of_padding_and_mask_are_no_bins(pad, mask, n_bins, expected):
    special = SpecialTokens(
        pad={"token": "<pad>", "value": pad}, mask={"token": "<mask>", "value": mask}
    )
    problems = check_special_values(special, n_bins, "x")
    assert len(problems) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(problems, expected, strict=True))


def test_special_tokens_have_different_names():
    with pytest.raises(ValidationError, match="<pad> stands for several special tokens"):
        SpecialTokens(others=["<pad>"])


@pytest.mark.skipif(not (SHARED / "genes").exists(), reason="no shared data")
@pytest.mark.parametrize(
    ("name", "known"), [("default_gene_vocab", 17_800), ("default_census_vocab", 18_000)]
)
def test_scgpts_vocabularies_are_kept_and_cover_the_vcc_genes(name, known, tmp_path):
    ids = json.loads((SHARED / f"genes/scgpt_{name}.json").read_text())
    for token in ("<pad>", "<cls>", "<eoc>"):
        ids[token] = len(ids)
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(ids))
    source = genes((SHARED / "vcc/gene_names.csv").read_text().splitlines())
    config = Vocabulary(
        genes=str(path), gene_chromosomes=str(SHARED / "genes/gene_chromosome_map.tsv")
    )
    found = build_vocabularies([source], config)
    assert found.genes["human"].ids == ids
    row = coverage(source, "rna", feature_ids(source, found, config)["rna"][1])
    assert row["known"] >= known
    write_vocabularies(tmp_path / "out", found)
    assert read_vocabularies(tmp_path / "out").digest == found.digest
    # Without any special token, as scGPT ships them, the file gets all behind its genes.
    plain = json.loads((SHARED / f"genes/scgpt_{name}.json").read_text())
    made = build(source, genes=str(SHARED / f"genes/scgpt_{name}.json")).genes["human"].ids
    assert {gene: made[gene] for gene in plain} == plain
    assert made["<cls>"] == len(plain)


@pytest.mark.skipif(not (SHARED / "genes").exists(), reason="no shared data")
def test_mouse_cells_join_a_human_vocabulary_by_orthologs():
    rna = ad.read_h5ad(SHARED / "snareseq_mop_rna_counts.h5ad", backed="r")
    atac = ad.read_h5ad(SHARED / "snareseq_mop_atac_counts.h5ad", backed="r")
    table = pd.read_csv(SHARED / "genes/human2mouse_ensembl105.csv", header=None).dropna()
    human = dict(zip(table[1], table[0], strict=True))
    called = [human.get(name, "") for name in rna.var_names]
    called = [name if called.count(name) == 1 else "" for name in called]
    source = NamedCells(
        {"rna": Features(np.array(called)), "atac": Features(np.array(atac.var_names, dtype=str))},
        labels=rna.obs,
    )
    config = Vocabulary(gene_chromosomes=str(SHARED / "genes/gene_chromosome_map.tsv"))
    found = build_vocabularies([source], config)
    fates = feature_ids(source, found, config)
    rna_row, atac_row = (coverage(source, name, fates[name][1]) for name in ("rna", "atac"))
    assert rna_row["unnamed"] == called.count("") < 400
    assert rna_row["share"] == atac_row["share"] == 1
    assert len(found.batches) == 12
    assert len(found.cell_types) == 15
    assert names(found.chromosomes)[:3] == ["chr1", "chr2", "chr3"]
    assert (found.chromosome_ids("atac", "human") >= 0).all()
    assert (found.chromosome_ids("rna", "human") >= 0).mean() > 0.97
