"""What a corpus, its atlases and the runs on it promise each other."""

from collections.abc import Mapping
from os.path import normpath

from pydantic import Field

from vcpipe.config.atlases import Atlas
from vcpipe.config.datasets import Dataset
from vcpipe.config.loading import Loading
from vcpipe.config.objectives.contradictions import CONTRADICTIONS
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.config.preprocess import Corpus
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.section import Name, Section
from vcpipe.config.tokens import Masking, Tokenizer
from vcpipe.config.vocabulary import check_special_values
from vcpipe.errors import listed

BINNED = ("binned_expression", "paired_peaks")
OF_GENES = ("rank_value", "binned_expression", "continuous_projection", "gene_embedding")
READ_BY = {
    ("n_bins", "binning_method", "binning_ties", "value_max"): BINNED,
    ("rank_normalization",): ("rank_value",),
    ("embedding_dim",): ("gene_embedding",),
    ("atac_max_len", "rna_max_len", "rna_sampling", "rna_nonzero_fraction"): ("paired_peaks",),
    ("max_genes", "prepend_cls", "truncation", "include_zero_genes"): OF_GENES,
}
# By objective: the tokenizers that it learns from; none where its own settings make the tokens.
LEARNS_FROM = {
    "masked_values": ("binned_expression", "continuous_projection"),
    "masked_genes": OF_GENES,
    "next_genes": ("rank_value", "binned_expression"),
    "masked_autoencoder": OF_GENES,
    "contrastive": (),
    "peaks_to_genes": ("paired_peaks",),
}
# Objectives that learn one table of genes, so of one species.
OF_ONE_SPECIES = {
    "masked_values",
    "masked_genes",
    "next_genes",
    "masked_autoencoder",
    "peaks_to_genes",
}
# Objectives that read tokenizer.masking.
READ_MASKING = {"masked_genes"}
SCREEN_LABELS = ("batch", "cell_type", "condition")


class Tokenizers(Section):
    """The tokenizers of the runs on one corpus."""

    runs: dict[Name, Tokenizer] = Field({}, description="by run")


def corpus_contradictions(name: str, corpus: Corpus) -> list[str]:
    """What is wrong between a corpus and its parts, all of which exist."""
    where, found = f"preprocess.{name}", []
    both = sorted({*corpus.datasets} & {*corpus.atlases})
    if both:
        found.append(f"{where} names {', '.join(both)} in datasets and in atlases; rename one")
    split = corpus.cell_split
    asked = split.val or split.test or split.val_groups or split.test_groups
    if asked and not corpus.atlases:
        found.append(
            f"{where}.cell_split is of atlases, and {where}.atlases is empty; "
            "screens are split by perturbations: set split"
        )
    if corpus.split and not corpus.datasets:
        found.append(f"{where}.split is of screens, and {where}.datasets is empty; set cell_split")
    return found


def files_of(
    corpus: Corpus, datasets: Mapping[str, Dataset], atlases: Mapping[str, Atlas]
) -> dict[str, list[str]]:
    """By path as it is written, the datasets and atlases of a corpus that read it."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(corpus.datasets):
        if name in datasets and datasets[name].path:
            found.setdefault(normpath(datasets[name].path), []).append(f"datasets.{name}")
    for name in dict.fromkeys(corpus.atlases):
        for path in dict.fromkeys(atlases[name].paths() if name in atlases else ()):
            found.setdefault(normpath(path), []).append(f"atlases.{name}")
    return found


def file_contradictions(
    name: str, corpus: Corpus, datasets: Mapping[str, Dataset], atlases: Mapping[str, Atlas]
) -> list[str]:
    """Under two names the same cell may be train in one and test in the other."""
    return [
        f"preprocess.{name} has {' and '.join(names)}, which all read {path}; expected every file "
        "in one of them"
        for path, names in files_of(corpus, datasets, atlases).items()
        if len(names) > 1
    ]


def _inert_keys(where: str, run: Pretrain) -> list[str]:
    """Keys that were set and that neither the strategy nor the objective reads."""
    tokenizer, found = run.tokenizer, []
    for keys, strategies in READ_BY.items():
        for key in keys:
            default = type(tokenizer).model_fields[key].default
            if getattr(tokenizer, key) != default and tokenizer.strategy not in strategies:
                found.append(
                    f"{where}.tokenizer.{key} is read by {' and '.join(strategies)}, and "
                    f"strategy is {tokenizer.strategy}; leave it out"
                )
    if run.objective not in READ_MASKING and tokenizer.masking != Masking():
        found.append(
            f"{where}.tokenizer.masking is of masked gene prediction, and objective is "
            f"{run.objective}; leave it out, or set the objective's own settings"
        )
    for objective in LEARNS_FROM:
        section = getattr(run, objective)
        if objective != run.objective and section != type(section)():
            found.append(
                f"{where}.{objective} is set, and objective is {run.objective}; leave it out, or "
                f"set objective to {objective}"
            )
    return found


def _masked_value_contradictions(
    where: str, run: Pretrain, corpus: Corpus, atlases: Mapping[str, Atlas]
) -> list[str]:
    """Parts of scGPT's objective that lack what they learn from, and settings of absent parts."""
    found, objective, of_cells = [], run.masked_values, run.masked_values.of_cells()
    if of_cells and not run.tokenizer.prepend_cls:
        found.append(
            f"{where}.masked_values sets {', '.join(f'{part}_weight' for part in of_cells)}, of "
            "the cell's embedding at <cls>, and tokenizer.prepend_cls is false; set it to true"
        )
    if "cce" in of_cells and not run.model.dropout:
        found.append(
            f"{where}.masked_values.cce_weight is {objective.cce_weight}, which compares what two "
            "draws of dropout make of a cell, and model.dropout is 0; expected more"
        )
    for key, part in (
        *(("gen_from_update", "gen"), ("ecs_threshold", "ecs"), ("cce_temperature", "cce")),
    ):
        value = getattr(objective, key)
        if part not in of_cells and value != MaskedValues.model_fields[key].default:
            found.append(
                f"{where}.masked_values.{key} is {value}, and {part}_weight is 0; leave it out, or "
                f"set {part}_weight"
            )
    with_types = [each for each in corpus.atlases if each in atlases and _has_types(atlases[each])]
    known = all(each in atlases for each in corpus.atlases)
    if "cls" in of_cells and known and not with_types and not corpus.datasets:
        found.append(
            f"{where}.masked_values.cls_weight is {objective.cls_weight}, and no atlas of "
            f"preprocess.{run.corpus} has cell types; set cell_type_key of one"
        )
    return found


def _has_types(atlas: Atlas) -> bool:
    return "cell_type" in _labels(atlas)


def _peaks_contradictions(
    where: str, run: Pretrain, corpus: Corpus, atlases: Mapping[str, Atlas]
) -> list[str]:
    """Chromosomes and cell types that the corpus does not know, and a sampling that has no use."""
    found, config, tokenizer = [], run.peaks_to_genes, run.tokenizer
    if config.use_chr_labels and corpus.vocabulary.gene_chromosomes is None:
        found.append(
            f"{where}.peaks_to_genes.use_chr_labels is true; expected a table of genes and their "
            f"chromosomes in preprocess.{run.corpus}.vocabulary.gene_chromosomes, or false"
        )
    without = [
        name for name in corpus.atlases if name in atlases and not atlases[name].cell_type_key
    ]
    if config.task_weight.cell_type and without:
        found.append(
            f"{where}.peaks_to_genes.task_weight.cell_type is {config.task_weight.cell_type}, but "
            f"{', '.join(without)} of preprocess.{run.corpus} has no cell_type_key; set it, or 0"
        )
    for key in ("rna_max_len", "rna_nonzero_fraction"):
        default = type(tokenizer).model_fields[key].default
        if tokenizer.rna_sampling != "balanced" and getattr(tokenizer, key) != default:
            found.append(
                f"{where}.tokenizer.{key} is of balanced sampling, and rna_sampling is "
                f"{tokenizer.rna_sampling}; leave it out"
            )
    return found


def _loading_contradictions(
    where: str, run: Pretrain, corpus: Corpus, atlases: Mapping[str, Atlas]
) -> list[str]:
    """Groups that the store does not keep together, and weights by labels that cells lack."""
    found, loading = [], run.loading
    if loading.strategy == "within_group" and not corpus.store.group_by:
        found.append(
            f"{where}.loading.strategy is within_group, but preprocess.{run.corpus}.store.group_by "
            "is empty; expected the labels of the groups"
        )
    labels = [{"dataset", *_labels(atlases[each])} for each in corpus.atlases if each in atlases]
    labels += [{"dataset", *SCREEN_LABELS}] if corpus.datasets else []
    shared = set.intersection(*labels) if labels else set(loading.weight_by)
    missing = [label for label in loading.weight_by if label not in shared]
    if missing:
        found.append(
            f"{where}.loading.weight_by names {', '.join(missing)}; all cells of preprocess."
            f"{run.corpus} have {listed(sorted(shared))}. Add it to obs_columns of every atlas"
        )
    return found


def _contrastive_contradictions(
    where: str, run: Pretrain, corpus: Corpus, species: list[str]
) -> list[str]:
    """Cells without others to be told from, or told from them by their species alone."""
    found = []
    if run.training.batch_size < 2:
        found.append(
            f"{where}.training.batch_size is {run.training.batch_size}, and contrastive tells the "
            "cells of a batch apart; expected at least 2"
        )
    if len(species) > 1 and run.loading.strategy != "within_group":
        found.append(
            f"{where}.loading.strategy is {run.loading.strategy}, but preprocess.{run.corpus} has "
            f"genes of {' and '.join(species)}, by which cells of one batch would be told apart; "
            "expected within_group"
        )
    vectors = corpus.vocabulary.gene_embeddings
    without = [name for name in species if name not in vectors]
    if run.contrastive.pretrained_embeddings and without:
        found.append(
            f"{where}.contrastive.pretrained_embeddings is true, but preprocess.{run.corpus}."
            f"vocabulary.gene_embeddings has no file for {' and '.join(without)}; add it"
        )
    return found


def finetune_loading_contradictions(name: str, loading: Loading) -> list[str]:
    """A screen is no store: its cells do not lie by group, and have three labels."""
    where, found = f"finetune.{name}.loading", []
    if loading.strategy == "within_group":
        found.append(
            f"{where}.strategy is within_group, which reads groups of a store; expected another, "
            "such as random_sampling"
        )
    missing = [label for label in loading.weight_by if label not in SCREEN_LABELS]
    if missing:
        found.append(
            f"{where}.weight_by names {', '.join(missing)}; expected labels of a screen's cells: "
            f"{', '.join(SCREEN_LABELS)}"
        )
    return found


def like_contradictions(
    name: str,
    corpus: Corpus,
    corpora: Mapping[str, Corpus],
    datasets: Mapping[str, Dataset],
    atlases: Mapping[str, Atlas],
) -> list[str]:
    """A corpus of new cells can only be like one that was fitted, on other cells."""
    fitted, found = corpora[corpus.like], []
    if fitted.like is not None:
        found.append(
            f"preprocess.{name}.like is {corpus.like!r}, which is itself like {fitted.like!r}; "
            "expected a corpus that is fitted"
        )
    names = {*fitted.datasets, *fitted.atlases}
    same = [one for one in (*corpus.datasets, *corpus.atlases) if one in names]
    its, of_fitted = (files_of(each, datasets, atlases) for each in (corpus, fitted))
    same += [path for path in its if path in of_fitted and {*its[path]}.isdisjoint(of_fitted[path])]
    if same:
        found.append(
            f"preprocess.{name}.like is {corpus.like!r}, which was fitted on {', '.join(same)} as "
            "well; expected new cells only"
        )
    return found


def _species(corpus: Corpus, atlases: Mapping[str, Atlas]) -> set[str]:
    """Whose genes a corpus has: of atlases after orthologs; screens are human."""
    its = [atlases[name] for name in corpus.atlases if name in atlases]
    named = {atlas.ortholog_species if atlas.orthologs else atlas.species for atlas in its}
    return named | ({"human"} if corpus.datasets else set())


def label_contradictions(name: str, corpus: Corpus, atlases: Mapping[str, Atlas]) -> list[str]:
    """Labels that cells are split and grouped by, and that no cell will have."""
    where, found = f"preprocess.{name}", []
    labels = {each: _labels(atlases[each]) for each in corpus.atlases if each in atlases}
    known = set().union(*labels.values(), SCREEN_LABELS if corpus.datasets else ())
    for label in sorted(set(corpus.store.group_by) - known):
        found.append(
            f"{where}.store.group_by names {label!r}; the labels of this corpus are "
            f"{listed(sorted(known))}. Add it to obs_columns of an atlas"
        )
    key = corpus.cell_split.key
    for each, its in labels.items():
        if key is not None and key not in its:
            found.append(
                f"{where}.cell_split.key is {key!r}, and atlases.{each} has the labels "
                f"{listed(sorted(its))}; set {key}_key there, or add it to obs_columns"
            )
    return found


def _labels(atlas: Atlas) -> set[str]:
    keyed = {"cell_type": atlas.cell_type_key, "donor": atlas.donor_key}
    return {"batch", *(name for name, key in keyed.items() if key), *atlas.obs_columns}


def run_contradictions(
    name: str, run: Pretrain, corpus: Corpus, atlases: Mapping[str, Atlas]
) -> list[str]:
    """What is wrong between a pretraining run and the corpus that it learns from."""
    where, found, tokenizer = f"pretrain.{name}", [], run.tokenizer
    if corpus.like:
        found.append(
            f"{where}.corpus is {run.corpus!r}, whose cells are all for test; expected "
            f"{corpus.like!r}, or another corpus that is fitted"
        )
    usable = LEARNS_FROM[run.objective]
    if not usable and tokenizer != Tokenizer():
        found.append(
            f"{where}.tokenizer is set, and objective is {run.objective}, whose tokens are made by "
            f"its own settings; leave it out, or set {where}.{run.objective}"
        )
    if usable and tokenizer.strategy not in usable:
        found.append(
            f"{where}.tokenizer.strategy is {tokenizer.strategy!r} and objective is "
            f"{run.objective}; expected {' or '.join(usable)}"
        )
    if tokenizer.rna_sampling == "hvg" and corpus.fit.hvg_selection is None:
        found.append(
            f"{where}.tokenizer.rna_sampling is hvg; expected a number of genes in "
            f"preprocess.{run.corpus}.fit.hvg_selection"
        )
    if tokenizer.strategy != "paired_peaks":
        without = [
            name for name in corpus.atlases if name in atlases and not atlases[name].has("rna")
        ]
        if without:
            found.append(
                f"{where}.tokenizer.strategy is {tokenizer.strategy}, a sequence of genes, but "
                f"{', '.join(without)} of preprocess.{run.corpus} has no rna"
            )
    if tokenizer.strategy == "paired_peaks":
        unpaired = [
            *corpus.datasets,
            *(
                atlas
                for atlas in corpus.atlases
                if atlas in atlases
                and not (atlases[atlas].has("rna") and atlases[atlas].has("atac"))
            ),
        ]
        if unpaired:
            found.append(
                f"{where}.tokenizer.strategy is paired_peaks, but {', '.join(unpaired)} of "
                f"preprocess.{run.corpus} has not both rna and atac"
            )
    special = corpus.vocabulary.special_tokens
    found += check_special_values(
        special,
        tokenizer.n_bins if usable and tokenizer.strategy in BINNED else None,
        f"{where}: preprocess.{run.corpus}.vocabulary.special_tokens",
    )
    if tokenizer.strategy in BINNED and tokenizer.binning_method == "quantile":
        edges = corpus.fit.num_bin_edges
        if edges != tokenizer.n_bins:
            found.append(
                f"{where}.tokenizer.n_bins is {tokenizer.n_bins}, but preprocess.{run.corpus}.fit."
                f"num_bin_edges is {edges}; expected the same number"
            )
    if tokenizer.strategy == "gene_embedding" and not corpus.vocabulary.gene_embeddings:
        found.append(
            f"{where}.tokenizer.strategy is gene_embedding, but preprocess.{run.corpus}.vocabulary."
            "gene_embeddings names no file of vectors; add it, or set continuous_projection"
        )
    found += _inert_keys(where, run)
    if run.objective == "masked_values":
        found += _masked_value_contradictions(where, run, corpus, atlases)
    if run.objective in CONTRADICTIONS:
        found += CONTRADICTIONS[run.objective](where, run)
    if run.objective == "peaks_to_genes":
        found += _peaks_contradictions(where, run, corpus, atlases)
    found += _loading_contradictions(where, run, corpus, atlases)
    species = sorted(_species(corpus, atlases))
    if run.objective == "contrastive":
        found += _contrastive_contradictions(where, run, corpus, species)
    if run.objective in OF_ONE_SPECIES and len(species) > 1:
        found.append(
            f"{where}.objective is {run.objective}, which learns one table of genes, but "
            f"preprocess.{run.corpus} has genes of {' and '.join(species)}; name orthologs, or "
            "make a corpus of each"
        )
    return found
