"""pretrain.<run>.contrastive: two views of a cell know each other (scConcept)."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section
from vcpipe.config.tokens import Panels


class Contrastive(Section):
    """InfoNCE between the views of a cell on two gene panels; the words are scConcept's."""

    panels: Panels = Field(Panels(), description="the two views of a cell")
    input_encoding: Literal["rank_encoding", "value_encoding"] = Field(
        "rank_encoding",
        description="what a gene's vector is added to: its place among the genes of the view, the "
        "most expressed first, or its normalised value",
    )
    projection_dim: int | None = Field(
        None, ge=1, description="width of a cell's embedding; null: that of the encoder"
    )
    pretrained_embeddings: bool = Field(
        False,
        description="genes begin with the vectors of preprocess.<corpus>.vocabulary.gene_embeddings"
        ", to which learned ones are added",
    )
    use_learnable_embs_freq: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of updates in which the learned vectors are added to pretrained ones; "
        "below 1 a model also serves genes that it has not learned",
    )
    logit_scale: float = Field(
        3.0, ge=0, le=4.6, description="logarithm of the factor on cosines, where it begins"
    )
    loss_switch_step: int | None = Field(
        10_000,
        ge=0,
        description="update from which the other cells' views on the cell's own panel are "
        "negatives too, as they are in val_loss throughout; null: never",
    )
    cont_loss_weight: float = Field(1.0, ge=0, description="of the contrast in the loss")
    mlm_loss_weight: float = Field(
        0.0, ge=0, description="of the squared error over hidden values in the loss"
    )
    masking_rate: float = Field(
        0.0, ge=0, lt=1, description="share of each view's values that are hidden and predicted"
    )

    @model_validator(mode="after")
    def _consistent(self):
        if (self.mlm_loss_weight > 0) != (self.masking_rate > 0):
            raise ValueError(
                f"mlm_loss_weight is {self.mlm_loss_weight} and masking_rate is "
                f"{self.masking_rate}; hidden values are predicted, so expected both above 0 or "
                "neither"
            )
        if self.cont_loss_weight == 0 and self.mlm_loss_weight == 0:
            raise ValueError(
                "cont_loss_weight and mlm_loss_weight are both 0; expected something to learn"
            )
        if self.use_learnable_embs_freq < 1 and not self.pretrained_embeddings:
            raise ValueError(
                f"use_learnable_embs_freq is {self.use_learnable_embs_freq}, which leaves genes "
                "without any vector; expected pretrained_embeddings: true, or 1"
            )
        return self
