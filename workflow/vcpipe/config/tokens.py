"""pretrain.<run>.tokenizer: how a cell becomes a sequence; the words of scModelForge's guide."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section

Strategy = Literal[
    "rank_value", "binned_expression", "continuous_projection", "gene_embedding", "paired_peaks"
]


class Masking(Section):
    """BERT's 80/10/10: of the chosen tokens most are hidden, some replaced, some left."""

    mask_ratio: float = Field(0.15, gt=0, le=1, description="share of tokens that are predicted")
    random_replace_ratio: float = Field(
        0.1, ge=0, le=1, description="share of these that get another gene"
    )
    keep_ratio: float = Field(0.1, ge=0, le=1, description="share of these that stay as they are")

    @model_validator(mode="after")
    def _at_most_all(self):
        if self.random_replace_ratio + self.keep_ratio > 1:
            raise ValueError(
                f"random_replace_ratio {self.random_replace_ratio} and keep_ratio "
                f"{self.keep_ratio} are more than 1 together"
            )
        return self


class Tokenizer(Section):
    strategy: Strategy = Field("binned_expression", description="what a token's value is")
    max_genes: int = Field(
        2048, ge=8, description="most tokens of a cell, <cls> included (scGPT: max_seq_len)"
    )
    prepend_cls: bool = Field(True, description="<cls> as the first token")
    truncation: Literal["top_value", "random", "first"] = Field(
        "top_value",
        description="which genes of a longer cell stay: the most expressed (ties drawn), any, or "
        "the first by id",
    )
    include_zero_genes: float = Field(
        0.0, ge=0, lt=1, description="share of max_genes that undetected genes fill"
    )
    n_bins: int = Field(
        51,
        ge=2,
        le=65535,
        description="bins, bin 0 for zero counts included; with quantile, n_bins edges are fitted",
    )
    binning_method: Literal["quantile_per_cell", "quantile", "uniform", "binary"] = Field(
        "quantile_per_cell",
        description="edges at a cell's own quantiles (scGPT), at those of all training values, or "
        "evenly spaced from 0 to value_max (scModelForge); binary: 1 for every detected gene",
    )
    binning_ties: Literal["middle", "random"] = Field(
        "middle",
        description="a value at several quantiles takes the middle one of its bins, or any (scGPT)",
    )
    value_max: float = Field(10.0, gt=0, description="upper end of uniform bins, of log1p values")
    rank_normalization: Literal["none", "gene_median"] = Field(
        "none",
        description="rank_value ranks by value, or by value over the gene's median in training "
        "cells (Geneformer)",
    )
    embedding_dim: int | None = Field(
        None, ge=1, description="of gene_embedding: width that the file must have; null: any"
    )
    masking: Masking = Field(Masking(), description="of masked gene prediction")
    atac_max_len: int = Field(12000, ge=2, description="most peaks of a cell, <cls> included")
    rna_max_len: int = Field(
        8000, ge=2, description="most genes that balanced sampling asks for (even, for halves)"
    )
    rna_sampling: Literal["balanced", "full", "hvg"] = Field(
        "balanced",
        description="genes that a cell is asked for: detected and undetected ones, all that its "
        "dataset measured (full), or the HVGs among them",
    )
    rna_nonzero_fraction: float = Field(
        0.5, gt=0, lt=1, description="share of detected genes in balanced sampling"
    )


class Panels(Section):
    """Two views of a cell on two gene panels (scConcept)."""

    folder: str | None = Field(
        None, description="folder with <species>/*.csv, column Ensembl_ID; null: random panels only"
    )
    panel_selection: Literal["random", "preselected", "mixed"] = Field(
        "random", description="panels that are drawn, from the folder, or either"
    )
    panel_selection_mixed_prob: float = Field(
        0.25, ge=0, le=1, description="share of random panels in mixed"
    )
    per: Literal["batch", "cell"] = Field(
        "batch", description="who shares a pair of panels: a global batch (scConcept), or nobody"
    )
    panel_min_genes: int = Field(
        10_000,
        ge=0,
        description="datasets that measured fewer genes get random panels, which is reported",
    )
    panel_size_min: float = Field(
        0.02, gt=0, description="least genes of a random panel; below 1: a share of the measured"
    )
    panel_size_max: float = Field(
        0.5, gt=0, description="most genes of a random panel; below 1: a share of the measured"
    )
    panel_overlap: float = Field(
        0.0, ge=0, le=1, description="probability that the two panels may share genes"
    )
    panel_max_drop_rate: float = Field(
        0.5, ge=0, lt=1, description="most of a file's panel that is left out at random"
    )
    feature_max_drop_rate: float = Field(
        0.0, ge=0, lt=1, description="most of a view's detected genes that are left out at random"
    )
    max_tokens: int = Field(1000, ge=8, description="most tokens of a view, <cls> included")

    @model_validator(mode="after")
    def _consistent(self):
        if (self.panel_selection != "random") != (self.folder is not None):
            raise ValueError(
                f"panel_selection is {self.panel_selection} and folder is {self.folder!r}; "
                "preselected and mixed need a folder, random has no use for one"
            )
        for name in ("panel_size_min", "panel_size_max"):
            size = getattr(self, name)
            if size >= 1 and size != int(size):
                raise ValueError(f"{name} is {size}; expected a whole number, or a share below 1")
        sizes = self.panel_size_min, self.panel_size_max
        if (sizes[0] < 1) == (sizes[1] < 1) and sizes[0] > sizes[1]:
            raise ValueError(f"panel_size_min {sizes[0]} is above panel_size_max {sizes[1]}")
        return self
