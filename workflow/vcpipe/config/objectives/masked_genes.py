"""pretrain.<run>.masked_genes: scModelForge's transformer_encoder."""

from typing import Literal

from pydantic import Field

from vcpipe.config.section import Section


class MaskedGenes(Section):
    """Masked gene prediction: hide some genes of a cell, tell which they were (BERT)."""

    use_expression_values: bool = Field(
        True, description="whether a token shows its value beside its gene"
    )
    position_embedding: Literal["auto", "none", "learned"] = Field(
        "auto", description="of the place in the sequence; auto: learned with rank_value, else none"
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="cell embedding: the output at <cls>, or the mean over all real tokens"
    )
