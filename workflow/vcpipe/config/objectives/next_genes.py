"""pretrain.<run>.next_genes: scModelForge's autoregressive_transformer."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section


class NextGenes(Section):
    """Tell the next gene of a cell from those before it, and then its bin."""

    use_expression_values: bool = Field(
        True, description="whether a token shows its value beside its gene"
    )
    position_embedding: Literal["auto", "none", "learned"] = Field(
        "auto", description="of the place in the sequence; auto: learned with rank_value, else none"
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls",
        description="cell embedding: the output at a summary token behind the last gene (the first "
        "token sees none), or the mean over all real tokens",
    )
    gene_loss_weight: float = Field(1.0, ge=0, description="weight of telling genes")
    expression_loss_weight: float = Field(
        1.0, ge=0, description="weight of telling their bins; above 0 only with binned_expression"
    )
    cell_loss_weight: float = Field(
        1.0,
        ge=0,
        description="weight of telling the same genes and bins from the cell embedding alone, "
        "which trains it; 0: the next gene only",
    )

    @model_validator(mode="after")
    def _learns_something(self):
        if self.gene_loss_weight == self.expression_loss_weight == 0:
            raise ValueError(
                "gene_loss_weight and expression_loss_weight are 0; expected one above 0"
            )
        return self
