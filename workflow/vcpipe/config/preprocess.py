"""preprocess.<corpus>: one vocabulary and one store of binned cells for pretraining."""

from pydantic import Field

from vcpipe.config.section import Name, Section


class Vocabulary(Section):
    """Gene symbol -> id, sorted by name, so that ids depend on no file's order."""

    path: str | None = Field(
        None, description="vocab.json to use as it is (scGPT's); null: the datasets' genes"
    )
    special_tokens: list[str] = Field(
        ["<pad>", "<cls>", "<eoc>"], min_length=2, description="tokens that are no gene"
    )
    min_gene_match: float = Field(
        0.5, gt=0, le=1, description="least share of genes that a given vocabulary must hold"
    )


class Cells(Section):
    """Which cells enter the store, and how their values are binned."""

    min_genes: int = Field(1, ge=1, description="cells with fewer detected genes are left out")
    n_bins: int = Field(
        51, ge=3, le=255, description="value bins with bin 0 for zero counts (scGPT: 51)"
    )


class Corpus(Section):
    datasets: list[Name] = Field(min_length=1, description="datasets in the store")
    split: Name | None = Field(
        None,
        description=(
            "leave out the cells that this split keeps for val and test, and the control cells "
            "that are kept for scoring; null: leave out none"
        ),
    )
    vocabulary: Vocabulary = Field(Vocabulary(), description="build_vocabulary")
    cells: Cells = Field(Cells(), description="prepare_cells")
