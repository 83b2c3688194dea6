"""preprocess.<corpus>.vocabulary: names -> ids, frozen before any value is read."""

from typing import Literal

from pydantic import Field

from vcpipe.config.section import Section


class SpecialToken(Section):
    token: str = Field(min_length=1, description="its name in the vocabulary")
    value: int = Field(description="the value that stands at it")


class SpecialTokens(Section):
    """The first tokens of every vocabulary, in this order; scConcept needs cls 0 and pad 1."""

    cls: SpecialToken = Field(
        SpecialToken(token="<cls>", value=0), description="begins a cell; its value is not read"
    )
    pad: SpecialToken = Field(SpecialToken(token="<pad>", value=-2), description="fills up")
    mask: SpecialToken = Field(SpecialToken(token="<mask>", value=-1), description="hides")
    others: list[str] = Field(["<eoc>"], description="tokens that only have a name")


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
        None, description="file with the only genes to keep, one a line or column Ensembl_ID"
    )
    peaks: str | None = Field(None, description="atac_vocab.json; null: the peaks of the corpus")
    peak_match: Literal["exact", "overlap"] = Field(
        "overlap",
        description="peaks of several files are the same where they have the same ends, or where "
        "they overlap (then merged into one)",
    )
    chromosomes: str | None = Field(None, description="chr_vocab.json; null: those of the corpus")
    gene_chromosomes: str | None = Field(
        None, description="gene2chr.json, or a table with gene and chromosome; null: none"
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
        0.5, gt=0, le=1, description="least share of a source's genes that the vocabulary holds"
    )
