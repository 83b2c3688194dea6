"""preprocess.<corpus>.vocabulary: names -> ids, frozen before any value is read."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section
from vcpipe.errors import listed


class SpecialToken(Section):
    token: str = Field(min_length=1, description="its name in the vocabulary")
    value: int = Field(description="the value that stands at it")


class SpecialTokens(Section):
    """The first tokens of every vocabulary, in this order; scConcept needs cls 0 and pad 1."""

    cls: SpecialToken = Field(
        SpecialToken(token="<cls>", value=0),
        description="begins a cell; models see its value, whatever it is",
    )
    pad: SpecialToken = Field(SpecialToken(token="<pad>", value=-2), description="fills up")
    mask: SpecialToken = Field(SpecialToken(token="<mask>", value=-1), description="hides")
    others: list[str] = Field(
        ["<eoc>"],
        description="tokens that only have a name; <unk> is the chromosome of genes without one",
    )

    def names(self) -> list[str]:
        return [self.cls.token, self.pad.token, self.mask.token, *self.others]

    def required(self) -> list[str]:
        """Those that every given vocabulary must have, too; scGPT's has no <mask>."""
        return [self.cls.token, self.pad.token]

    @model_validator(mode="after")
    def _distinct(self):
        names = self.names()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{listed(twice)} stands for several special tokens; expected one")
        return self


def check_special_values(
    special: SpecialTokens, n_bins: int | None, where: str = "special_tokens"
) -> list[str]:
    """What is wrong with the values of pad and mask: each its own, and none that a gene may have.

    Genes have bins from 0 to n_bins - 1, or, where n_bins is null, any number from 0 on.

    <cls> stands first and is never predicted, so its value is free, as in EpiFoundation's examples.
    """
    values = {"pad": special.pad.value, "mask": special.mask.value}
    if n_bins is None:
        clash, also, expected = "a value that genes may have", "", "a negative number"
    else:
        clash, also = "also a bin", f" (0 to {n_bins - 1}, n_bins is {n_bins})"
        expected = f"a negative number, or {n_bins} or more"
    problems = [
        f"{where}.{name}.value is {value}, which is {clash}{also}; expected {expected}"
        for name, value in values.items()
        if value >= 0 and (n_bins is None or value < n_bins)
    ]
    if special.pad.value == special.mask.value:
        problems.append(
            f"{where}.mask.value is {special.mask.value}, and so is {where}.pad.value; expected "
            "two numbers, or masked genes look like padding"
        )
    return problems


class Vocabulary(Section):
    """Every part is made from the corpus, or read from a file of yours and kept as it is."""

    genes: str | dict[str, str] | None = Field(
        None,
        description="vocab.json, rna_vocab.json or CSV gene_id,gene_name,token; of several "
        "species {human: file, mouse: file}; null: the genes of the corpus",
    )
    join: Literal["union", "intersection"] = Field(
        "union", description="genes and peaks of any file, or of all"
    )
    panel: str | None = Field(
        None,
        description="file with the only genes of the corpus to keep, one a line or column "
        "Ensembl_ID",
    )
    peaks: str | None = Field(None, description="atac_vocab.json; null: the peaks of the corpus")
    peak_match: Literal["exact", "overlap"] = Field(
        "overlap",
        description="peaks of several files are the same where they have the same ends, or where "
        "they overlap (then merged into one)",
    )
    chromosomes: str | None = Field(None, description="chr_vocab.json; null: those of the corpus")
    gene_chromosomes: str | dict[str, str] | None = Field(
        None,
        description="gene2chr.json, or a table with gene and chromosome; of several species "
        "{human: file, mouse: file}; null: none",
    )
    batches: str | None = Field(None, description="batch_vocab.json; null: those of the corpus")
    cell_types: str | None = Field(
        None, description="cell_type_vocab.json; null: those of the corpus"
    )
    gene_embeddings: dict[str, str] = Field(
        {},
        description="pretrained vectors by species: CSV (gene, numbers), .npy with a .txt of "
        "genes, .pt or .safetensors",
    )
    special_tokens: SpecialTokens = Field(SpecialTokens(), description="tokens that are no gene")
    gene_aliases: bool = Field(True, description="former symbols and Ensembl ids count as the gene")
    unknown_genes: Literal["drop", "error"] = Field(
        "drop", description="genes that a given vocabulary lacks: leave out and report, or stop"
    )
    min_gene_match: float = Field(
        0.5,
        gt=0,
        le=1,
        description="least share of a source's genes, and of its peaks, that the vocabulary holds",
    )

    def files(self) -> dict[str, str]:
        """The files of a user's own, by key."""
        found = {}
        for key in (
            "genes",
            "panel",
            "peaks",
            "chromosomes",
            "gene_chromosomes",
            "batches",
            "cell_types",
            "gene_embeddings",
        ):
            its = getattr(self, key)
            named = its if isinstance(its, dict) else {"": its} if its else {}
            found |= {f"{key}.{name}".rstrip("."): path for name, path in named.items()}
        for species, path in self.gene_embeddings.items():
            genes = Path(path).with_suffix(".txt")
            # The two others may hold their genes themselves.
            may_hold_them = Path(path).suffix in (".pt", ".safetensors")
            if Path(path).suffix == ".npy" or (may_hold_them and genes.exists()):
                found[f"gene_embeddings.{species} (genes)"] = str(genes)
        return found

    @model_validator(mode="after")
    def _consistent(self):
        if self.genes and self.panel:
            raise ValueError(
                f"panel is {self.panel!r} and genes is {self.genes!r}; a given vocabulary is kept "
                "as it is, so expected one of them"
            )
        return self
