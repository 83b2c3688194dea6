"""What a corpus, its atlases and the runs on it may not say together."""

import re

import pytest

from vcpipe.config.reading import check_files, read_pipeline
from vcpipe.errors import InputError

PEAKS = {"paths": ["peaks.h5ad"]}


@pytest.fixture
def values() -> dict:
    """A corpus of a screen, one of an atlas, and a run on each."""
    return {
        "datasets": {"d": {"path": "d.h5ad"}},
        "atlases": {"a": {"rna": {"paths": ["a.h5ad"]}}},
        "splits": {"s": {}},
        "preprocess": {
            "screens": {"datasets": ["d"], "split": "s"},
            "cells": {"atlases": ["a"], "cell_split": {"val": 0.1}},
        },
        "pretrain": {"p": {"corpus": "screens"}, "q": {"corpus": "cells"}},
    }


def wrong(values: dict) -> str:
    with pytest.raises(InputError) as caught:
        read_pipeline(values=values)
    return str(caught.value)


def paired(values: dict, **tokenizer) -> dict:
    """The run on the atlas asks for peaks."""
    values["pretrain"]["q"]["tokenizer"] = {"strategy": "paired_peaks"} | tokenizer
    return values


def test_what_belongs_together_is_read(values):
    assert set(read_pipeline(values=values)[0].preprocess) == {"screens", "cells"}


def test_a_name_in_datasets_and_in_atlases_is_refused(values):
    values["atlases"]["d"] = values["atlases"]["a"]
    values["preprocess"]["screens"]["atlases"] = ["d"]
    text = wrong(values)
    assert "preprocess.screens names d in datasets and in atlases; rename one" in text


def test_a_file_under_two_names_of_a_corpus_is_refused(values):
    values["atlases"]["b"] = {"atac": {"paths": ["./a.h5ad"]}}
    values["datasets"]["e"] = {"path": "a.h5ad"}
    read_pipeline(values=values)
    values["preprocess"]["cells"]["atlases"] = ["a", "b"]
    assert "preprocess.cells has atlases.a and atlases.b, which all read a.h5ad" in wrong(values)
    values["preprocess"]["cells"] |= {"atlases": ["a"], "datasets": ["e"]}
    assert "preprocess.cells has datasets.e and atlases.a, which all read a.h5ad" in wrong(values)


def test_one_file_of_genes_and_peaks_is_one_atlas(values):
    values["atlases"]["a"] |= {"rna": PEAKS, "atac": PEAKS}
    read_pipeline(values=values)


def test_a_corpus_like_another_has_other_cells(values):
    values["atlases"] |= {"b": {"rna": {"paths": ["b.h5ad"]}}, "c": values["atlases"]["a"]}
    values["preprocess"]["new"] = {"atlases": ["b"], "like": "cells"}
    read_pipeline(values=values)
    values["preprocess"]["new"]["atlases"] = ["a", "b"]
    text = wrong(values)
    assert "preprocess.new.like is 'cells', which was fitted on a as well; expected new" in text
    values["preprocess"]["new"]["atlases"] = ["b", "c"]
    assert "which was fitted on a.h5ad as well" in wrong(values)
    values["preprocess"]["new"] = {"datasets": ["d"], "like": "screens"}
    assert "preprocess.new.like is 'screens', which was fitted on d as well" in wrong(values)


def test_an_atlas_that_is_not_there_is_named_with_those_that_are(values):
    values["preprocess"]["cells"]["atlases"] = ["b"]
    assert "preprocess.cells.atlases is 'b'; expected a name in atlases (a)" in wrong(values)


@pytest.mark.parametrize(
    "cell_split",
    [{"val": 0.1}, {"test": 0.1}, {"method": "grouped", "key": "batch", "val_groups": ["b1"]}],
)
def test_cells_of_screens_are_not_drawn(values, cell_split):
    values["preprocess"]["screens"]["cell_split"] = cell_split
    text = wrong(values)
    assert "preprocess.screens.cell_split is of atlases, and preprocess.screens.atlases" in text
    assert "set split" in text


def test_a_split_of_perturbations_needs_screens(values):
    values["preprocess"]["cells"]["split"] = "s"
    assert "preprocess.cells.split is of screens" in wrong(values)


def test_a_corpus_of_nothing_is_refused(values):
    values["preprocess"]["cells"] = {}
    assert "expected at least one name in datasets or atlases" in wrong(values)


@pytest.mark.parametrize("name", ["pad", "mask"])
@pytest.mark.parametrize(("value", "is_bin"), [(0, True), (9, True), (10, False), (-3, False)])
def test_a_special_value_that_is_a_bin_is_refused(values, name, value, is_bin):
    values["pretrain"]["q"]["tokenizer"] = {"strategy": "binned_expression", "n_bins": 10}
    tokens = {name: {"token": f"<{name}>", "value": value}}
    values["preprocess"]["cells"]["vocabulary"] = {"special_tokens": tokens}
    if not is_bin:
        read_pipeline(values=values)
        return
    text = wrong(values)
    assert f"pretrain.q: preprocess.cells.vocabulary.special_tokens.{name}.value is" in text
    assert f"{value}, which is also a bin (0 to 9, n_bins is 10)" in text


def test_pad_and_mask_have_different_values(values):
    tokens = {"pad": {"token": "<pad>", "value": -1}}
    values["preprocess"]["cells"]["vocabulary"] = {"special_tokens": tokens}
    assert "special_tokens.mask.value is -1, and so is" in wrong(values)


def test_paired_peaks_need_genes_and_peaks_of_every_part(values):
    text = wrong(paired(values))
    assert "is paired_peaks, but a of preprocess.cells has not both rna and atac" in text
    values["atlases"]["a"]["atac"] = PEAKS
    assert "has not both" not in wrong(paired(values))
    values["pretrain"]["q"]["corpus"] = "screens"
    assert "but d of preprocess.screens has not both rna and atac" in wrong(paired(values))


RANKS, BINS = {"strategy": "rank_value"}, {"strategy": "binned_expression"}
LOGS = {"strategy": "continuous_projection"}


@pytest.mark.parametrize(
    ("objective", "settings", "tokenizer", "words"),
    [
        ("masked_genes", {}, RANKS | {"masking": {"mask_ratio": 0.3}}, None),
        ("masked_genes", {"position_embedding": "learned"}, RANKS, None),
        ("masked_genes", {"use_expression_values": False}, RANKS, None),
        (
            "masked_genes",
            {"position_embedding": "learned"},
            BINS,
            "masked_genes.position_embedding is learned, but genes of binned_expression come by id",
        ),
        (
            "masked_genes",
            {"use_expression_values": False},
            LOGS,
            "without values tokens of continuous_projection are a mere list of genes",
        ),
        (
            "masked_genes",
            {},
            RANKS | {"prepend_cls": False},
            "masked_genes.pooling is cls, but tokenizer.prepend_cls is false",
        ),
        ("masked_genes", {"pooling": "mean"}, RANKS | {"prepend_cls": False}, None),
        ("next_genes", {}, BINS | {"prepend_cls": False}, None),
        ("next_genes", {"expression_loss_weight": 0}, RANKS, None),
        ("next_genes", {}, RANKS, "expression_loss_weight is 1.0, but tokens of rank_value have"),
        ("next_genes", {}, LOGS, "expected rank_value or binned_expression"),
        (
            "next_genes",
            {"use_expression_values": False},
            BINS,
            "without values tokens of binned_expression are a mere list of genes",
        ),
        ("next_genes", {}, BINS | {"masking": {"mask_ratio": 0.3}}, "tokenizer.masking is of"),
        ("masked_autoencoder", {"mask_ratio": 0.7}, LOGS, None),
        (
            "masked_autoencoder",
            {},
            LOGS | {"prepend_cls": False},
            "masked_autoencoder.pooling is cls, but tokenizer.prepend_cls is false",
        ),
        (
            "masked_autoencoder",
            {"decoder_dim": 50, "decoder_heads": 4},
            LOGS,
            "the decoder has width 50, 4 heads; expected decoder_dim",
        ),
    ],
)
def test_an_architecture_and_its_tokens_fit_together(values, objective, settings, tokenizer, words):
    run = {"objective": objective, objective: settings, "tokenizer": tokenizer}
    values["pretrain"]["q"] |= run
    if words is None:
        read_pipeline(values=values)
    else:
        assert words in wrong(values)


def test_settings_of_another_objective_are_refused(values):
    values["pretrain"]["q"] |= {"objective": "masked_genes", "next_genes": {"pooling": "mean"}}
    assert "pretrain.q.next_genes is set, and objective is masked_genes; leave it" in wrong(values)


def test_gene_vectors_need_a_file_of_vectors(values):
    values["pretrain"]["q"] |= {
        "objective": "masked_genes",
        "tokenizer": {"strategy": "gene_embedding"},
    }
    text = wrong(values)
    assert "vocabulary.gene_embeddings names no file of vectors" in text
    values["preprocess"]["cells"]["vocabulary"] = {"gene_embeddings": {"human": "e.csv"}}
    read_pipeline(values=values)


def test_scgpts_finetuning_takes_the_weights_of_masked_values(values):
    values["pretrain"]["p"] |= {"objective": "masked_genes"}
    values["finetune"] = {"f": {"dataset": "d", "split": "s", "pretrained": "p"}}
    text = wrong(values)
    assert "finetune.f.pretrained is 'p', whose objective is masked_genes; scGPT's model" in text


def peaks_to_genes(values: dict, tokenizer=None, **settings) -> dict:
    """A run that learns genes from peaks, of a corpus that has all it needs."""
    values["atlases"]["a"] |= {"atac": PEAKS, "cell_type_key": "type"}
    values["preprocess"]["cells"]["vocabulary"] = {"gene_chromosomes": "places.tsv"}
    paired(values, **(tokenizer or {}))
    values["pretrain"]["q"] |= {"objective": "peaks_to_genes", "peaks_to_genes": settings}
    return values


def test_genes_are_learned_from_peaks(values):
    read_pipeline(values=peaks_to_genes(values, task_weight={"cell_type": 1.0}))


def test_chromosomes_that_nobody_knows_are_refused(values):
    peaks_to_genes(values)["preprocess"]["cells"]["vocabulary"] = {}
    text = wrong(values)
    assert "pretrain.q.peaks_to_genes.use_chr_labels is true; expected a table of genes" in text
    assert "preprocess.cells.vocabulary.gene_chromosomes, or false" in text
    values["pretrain"]["q"]["peaks_to_genes"] = {"use_chr_labels": False}
    read_pipeline(values=values)


def test_cell_types_that_no_cell_has_are_refused(values):
    peaks_to_genes(values, task_weight={"cell_type": 0.5})["atlases"]["a"]["cell_type_key"] = None
    text = wrong(values)
    assert "task_weight.cell_type is 0.5, but a of preprocess.cells has no cell_type_key" in text
    values["pretrain"]["q"]["peaks_to_genes"] = {}
    read_pipeline(values=values)


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ({"rna_sampling": "full", "rna_max_len": 10}, "rna_max_len is of balanced sampling"),
        ({"rna_sampling": "full", "rna_nonzero_fraction": 0.2}, "and rna_sampling is full; leave"),
        ({"prepend_cls": False}, "prepend_cls is read by rank_value"),
        ({"max_genes": 99}, "max_genes is read by rank_value"),
    ],
)
def test_settings_of_another_sampling_are_refused(values, tokenizer, words):
    assert words in wrong(peaks_to_genes(values, tokenizer))


def test_peaks_to_genes_learns_from_peaks_only(values):
    peaks_to_genes(values)["pretrain"]["q"]["tokenizer"] = {"strategy": "binned_expression"}
    assert "objective is peaks_to_genes; expected paired_peaks" in wrong(values)


def test_settings_of_peaks_are_refused_of_another_objective(values):
    peaks_to_genes(values, cell_emb_style="mean")["pretrain"]["q"]["objective"] = "masked_values"
    assert "pretrain.q.peaks_to_genes is set, and objective is masked_values" in wrong(values)


@pytest.mark.parametrize("strategy", ["rank_value", "gene_embedding", "paired_peaks"])
def test_masked_values_learns_values_only(values, strategy):
    values["atlases"]["a"]["atac"] = PEAKS
    values["pretrain"]["q"]["tokenizer"] = {"strategy": strategy}
    text = wrong(values)
    assert f"pretrain.q.tokenizer.strategy is '{strategy}' and objective is masked_values" in text
    assert "expected binned_expression or continuous_projection" in text


@pytest.mark.parametrize("part", ["mvc", "ecs", "dar", "cls", "cce"])
def test_what_is_learned_from_a_cells_embedding_needs_cls(values, part):
    values["atlases"]["a"]["cell_type_key"] = "cell_type"
    values["pretrain"]["q"] |= {
        "masked_values": {f"{part}_weight": 1},
        "tokenizer": {"strategy": "binned_expression", "prepend_cls": False},
    }
    text = wrong(values)
    assert f"pretrain.q.masked_values sets {part}_weight, of the cell's embedding at <cls>" in text
    values["pretrain"]["q"]["tokenizer"]["prepend_cls"] = True
    read_pipeline(values=values)


def test_two_draws_of_dropout_differ_only_where_there_is_dropout(values):
    values["pretrain"]["q"] |= {"masked_values": {"cce_weight": 1}, "model": {"dropout": 0.0}}
    assert "and model.dropout is 0; expected more" in wrong(values)


@pytest.mark.parametrize(
    ("key", "part", "value"),
    [("ecs_threshold", "ecs", 0.6), ("cce_temperature", "cce", 0.6), ("gen_from_update", "gen", 9)],
)
def test_settings_of_a_part_that_is_off_are_refused(values, key, part, value):
    values["pretrain"]["q"] |= {"masked_values": {key: value}}
    assert f"masked_values.{key} is {value}, and {part}_weight is 0; leave it out" in wrong(values)
    values["pretrain"]["q"]["masked_values"][f"{part}_weight"] = 1
    read_pipeline(values=values)


def test_cell_types_are_learned_where_an_atlas_has_some(values):
    values["pretrain"]["q"] |= {"masked_values": {"cls_weight": 1}}
    assert "no atlas of preprocess.cells has cell types; set cell_type_key" in wrong(values)


def test_hvg_sampling_needs_highly_variable_genes(values):
    values["atlases"]["a"]["atac"] = PEAKS
    text = wrong(paired(values, rna_sampling="hvg"))
    assert "pretrain.q.tokenizer.rna_sampling is hvg; expected a number of genes in" in text
    assert "preprocess.cells.fit.hvg_selection" in text
    values["preprocess"]["cells"]["fit"] = {"hvg_selection": 100}
    assert "rna_sampling" not in wrong(paired(values, rna_sampling="hvg"))


def test_val_loss_is_of_the_corpuss_own_val_cells_or_of_a_share(values):
    values["pretrain"]["q"]["val_fraction"] = 0
    read_pipeline(values=values)
    values["preprocess"]["cells"]["cell_split"] = {"test": 0.1}
    assert "pretrain.q.val_fraction is 0" in wrong(values)


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (
            {"strategy": "continuous_projection", "n_bins": 11},
            "n_bins is read by binned_expression",
        ),
        ({"rank_normalization": "gene_median"}, "rank_normalization is read by rank_value"),
        ({"atac_max_len": 100}, "atac_max_len is read by paired_peaks"),
        ({"masking": {"mask_ratio": 0.5}}, "set the objective's own settings"),
        ({"binning_method": "quantile", "n_bins": 7}, "num_bin_edges is 51; expected the same"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(tokenizer, words):
    values = {
        "atlases": {"a": {"rna": {"paths": ["a.h5ad"]}}},
        "preprocess": {"c": {"atlases": ["a"]}},
        "pretrain": {"p": {"corpus": "c", "tokenizer": tokenizer}},
    }
    with pytest.raises(InputError, match=re.escape(words)):
        read_pipeline(values=values)


def test_values_beside_logarithms_must_be_negative():
    values = {
        "atlases": {"a": {"rna": {"paths": ["a.h5ad"]}}},
        "preprocess": {
            "c": {
                "atlases": ["a"],
                "vocabulary": {"special_tokens": {"mask": {"token": "<mask>", "value": 99}}},
            }
        },
        "pretrain": {"p": {"corpus": "c", "tokenizer": {"strategy": "continuous_projection"}}},
    }
    with pytest.raises(InputError, match=r"mask\.value is 99, which is a value that genes may"):
        read_pipeline(values=values)
    values["pretrain"]["p"]["tokenizer"] = {"n_bins": 51}
    read_pipeline(values=values)


def test_labels_that_no_cell_will_have_are_named_with_those_that_exist():
    values = {
        "atlases": {"a": {"rna": {"paths": ["a.h5ad"]}, "obs_columns": ["plate"]}},
        "preprocess": {
            "c": {
                "atlases": ["a"],
                "store": {"group_by": ["tissue"]},
                "cell_split": {"method": "grouped", "key": "donor", "val": 0.1},
            }
        },
    }
    with pytest.raises(InputError) as caught:
        read_pipeline(values=values)
    text = str(caught.value)
    assert "group_by names 'tissue'; the labels of this corpus are batch, plate" in text
    assert "cell_split.key is 'donor', and atlases.a has the labels batch, plate" in text


def test_runs_on_genes_need_genes_of_one_species():
    values = {
        "atlases": {
            "a": {"atac": {"paths": ["a.h5ad"]}},
            "b": {"rna": {"paths": ["b.h5ad"]}, "species": "mouse"},
            "d": {"rna": {"paths": ["d.h5ad"]}},
        },
        "preprocess": {"c": {"atlases": ["a"]}, "two": {"atlases": ["b", "d"]}},
        "pretrain": {"p": {"corpus": "c"}, "q": {"corpus": "two"}},
    }
    with pytest.raises(InputError) as caught:
        read_pipeline(values=values)
    assert "a of preprocess.c has no rna" in str(caught.value)
    assert "preprocess.two has genes of human and mouse; name orthologs" in str(caught.value)


def test_a_census_of_mice_is_no_atlas_of_human_genes():
    values = {"atlases": {"a": {"census": {"organism": "Mus musculus"}}}}
    with pytest.raises(InputError, match="species is human; expected mouse or mmusculus"):
        read_pipeline(values=values)
    values["atlases"]["a"]["species"] = "mouse"
    read_pipeline(values=values)


@pytest.fixture
def contrast() -> dict:
    """A contrastive run on cells of two species."""
    return {
        "atlases": {
            "h": {"rna": {"paths": ["h.h5ad"]}},
            "m": {"rna": {"paths": ["m.h5ad"]}, "species": "mouse"},
        },
        "preprocess": {"c": {"atlases": ["h", "m"], "store": {"group_by": ["batch"]}}},
        "pretrain": {
            "p": {
                "corpus": "c",
                "objective": "contrastive",
                "loading": {"strategy": "within_group"},
            }
        },
    }


def test_a_contrastive_run_may_have_several_species(contrast):
    assert read_pipeline(values=contrast)[0].pretrain["p"].objective == "contrastive"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loading": {}}, "by which cells of one batch would be told apart; expected within_group"),
        ({"training": {"batch_size": 1}}, "contrastive tells the cells of a batch apart; expected"),
        ({"tokenizer": {"strategy": "rank_value"}}, "pretrain.p.tokenizer is set, and objective"),
        ({"tokenizer": {"max_genes": 100}}, "leave it out, or set pretrain.p.contrastive"),
        ({"masked_values": {"mask_ratio": [0.1]}}, "pretrain.p.masked_values is set"),
        ({"contrastive": {"pretrained_embeddings": True}}, "no file for human and mouse; add it"),
    ],
)
def test_what_a_contrastive_run_has_no_use_for_is_refused(contrast, changes, words):
    contrast["pretrain"]["p"] |= changes
    assert words in wrong(contrast)


def test_settings_of_a_contrast_belong_to_the_objective(contrast):
    run = {"corpus": "c", "contrastive": {"projection_dim": 8}}
    contrast["preprocess"]["c"]["atlases"] = ["h"]
    contrast["pretrain"]["p"] = run
    assert "pretrain.p.contrastive is set, and objective is masked_values" in wrong(contrast)


def test_values_beside_those_of_a_contrast_are_negative(contrast):
    special = {"mask": {"token": "<mask>", "value": 99}}
    contrast["preprocess"]["c"]["vocabulary"] = {"special_tokens": special}
    assert "mask.value is 99, which is a value that genes may have" in wrong(contrast)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"masking_rate": 0.2}, "hidden values are predicted, so expected both above 0"),
        ({"mlm_loss_weight": 1.0}, "hidden values are predicted, so expected both above 0"),
        ({"cont_loss_weight": 0.0}, "are both 0; expected something to learn"),
        ({"use_learnable_embs_freq": 0.5}, "expected pretrained_embeddings: true, or 1"),
        ({"panels": {"panel_selection": "mixed"}}, "preselected and mixed need a folder"),
    ],
)
def test_a_contrast_that_contradicts_itself_is_refused(contrast, settings, words):
    contrast["pretrain"]["p"]["contrastive"] = settings
    assert words in wrong(contrast)


def test_panels_that_are_not_there_are_named_before_anything_runs(contrast, tmp_path):
    panels = {"folder": str(tmp_path), "panel_selection": "preselected"}
    contrast["pretrain"]["p"]["contrastive"] = {"panels": panels}
    with pytest.raises(InputError, match=r"contrastive\.panels\.folder has no .*csv; expected"):
        check_files(read_pipeline(values=contrast)[0])


@pytest.mark.parametrize("section", ["pretrain", "finetune"])
def test_a_lowest_rate_is_below_the_rate(values, section):
    values["finetune"] = {"p": {"dataset": "d", "split": "s", "pretrained": "p"}}
    values[section]["p"] |= {
        "optimizer": {"lr": 1e-6},
        "scheduler": {"name": "cosine", "min_lr": 1e-5},
    }
    text = wrong(values)
    assert f"{section}.p.scheduler.min_lr is 1e-05 and {section}.p.optimizer.lr is 1e-06" in text
