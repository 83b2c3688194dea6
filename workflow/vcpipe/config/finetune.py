"""finetune.<run>: from a pretrained encoder to a model that predicts perturbed cells."""

from typing import Literal

from pydantic import Field

from vcpipe.config.loading import Loading
from vcpipe.config.section import Name, Section
from vcpipe.config.training import Optimizer, Scheduler, Training


class GeneMatching(Section):
    """How a screen's genes find their token in a checkpoint's vocabulary."""

    gene_aliases: bool = Field(
        True,
        description="match renamed genes too, by HGNC's previous symbols and Ensembl ids; "
        "false: exact names only",
    )


class Perturbation(GeneMatching):
    """Control cell and perturbation in, perturbed cell out (scGPT's TransformerGenerator)."""

    max_seq_len: int = Field(1536, ge=8, description="genes per step, drawn anew for each batch")
    always_sample_targets: bool = Field(
        True,
        description="always include the batch's perturbed genes (scGPT: by chance, 8.5 % on VCC)",
    )
    min_gene_match: float = Field(
        0.5,
        gt=0,
        le=1,
        description="least share of genes that the checkpoint's vocabulary must hold",
    )

    def gene_matching(self) -> GeneMatching:
        """What match_genes reads of these settings."""
        return GeneMatching(gene_aliases=self.gene_aliases)


class Finetune(Section):
    dataset: Name = Field(description="a name in datasets")
    split: Name = Field(description="a name in splits")
    pretrained: str = Field(
        description="a name in pretrain, or a folder with best_model.pt, args.json, vocab.json"
    )
    initial_weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: the same architecture and vocabulary, nothing loaded"
    )
    objective: Literal["perturbation"] = Field("perturbation", description="what is learned")
    perturbation: Perturbation = Field(Perturbation(), description="its settings")
    dropout: float = Field(0.0, ge=0, lt=1, description="replaces the checkpoint's (scGPT: 0)")
    loading: Loading = Field(Loading(), description="in which order cells are seen")
    optimizer: Optimizer = Field(Optimizer(), description="how weights move")
    scheduler: Scheduler = Field(Scheduler(), description="how the rate changes")
    training: Training = Field(Training(), description="the loop")
