"""What a corpus, its atlases and the runs on it promise each other."""

from collections.abc import Mapping

from pydantic import Field

from vcpipe.config.atlases import Atlas
from vcpipe.config.preprocess import Corpus
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.section import Name, Section
from vcpipe.config.tokens import Tokenizer
from vcpipe.config.vocabulary import check_special_values


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


def like_contradictions(name: str, corpus: Corpus, corpora: Mapping[str, Corpus]) -> list[str]:
    """A corpus of new cells can only be like one that was fitted."""
    if corpora[corpus.like].like is None:
        return []
    return [
        f"preprocess.{name}.like is {corpus.like!r}, which is itself like "
        f"{corpora[corpus.like].like!r}; expected a corpus that is fitted"
    ]


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
    # rank_value and paired_peaks are tokenized here and learned from by other objectives.
    usable = ("binned_expression", "continuous_projection")
    if run.objective == "masked_values" and tokenizer.strategy not in usable:
        found.append(
            f"{where}.tokenizer.strategy is {tokenizer.strategy!r} and objective is masked_values; "
            f"expected {' or '.join(usable)}"
        )
    if tokenizer.rna_sampling == "hvg" and corpus.fit.hvg_selection is None:
        found.append(
            f"{where}.tokenizer.rna_sampling is hvg; expected a number of genes in "
            f"preprocess.{run.corpus}.fit.hvg_selection"
        )
    if tokenizer.strategy == "paired_peaks":
        unpaired = [
            *corpus.datasets,
            *(
                atlas
                for atlas in corpus.atlases
                if atlas in atlases and not (atlases[atlas].rna and atlases[atlas].atac)
            ),
        ]
        if unpaired:
            found.append(
                f"{where}.tokenizer.strategy is paired_peaks, but {', '.join(unpaired)} of "
                f"preprocess.{run.corpus} has not both rna and atac"
            )
    if tokenizer.strategy in ("binned_expression", "paired_peaks"):
        special = f"preprocess.{run.corpus}.vocabulary.special_tokens"
        found += check_special_values(
            corpus.vocabulary.special_tokens, tokenizer.n_bins, f"{where}: {special}"
        )
    return found
