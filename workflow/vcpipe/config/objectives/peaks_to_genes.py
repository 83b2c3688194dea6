"""pretrain.<run>.peaks_to_genes: EpiFoundation's model; the words of its configuration guide."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section

ValueHead = Literal["categorical", "zero_inflated", "regression"]
DecoderStyle = Literal["concat query", "sum query", "inner product", "gene-specific concat query"]


class TaskWeight(Section):
    """Every term is a mean over cells; of values, of each cell's own mean."""

    cell_type: float = Field(
        0.0, ge=0, le=10, description="of telling cell types apart; 0: no such head"
    )
    mvc: float = Field(1.0, ge=0, le=10, description="of the values of genes")
    zero_bce: float = Field(
        1.0, ge=0, le=10, description="zero_inflated: of telling undetected genes, within mvc"
    )
    value_mse: float = Field(
        1.0, ge=0, le=10, description="zero_inflated: of values of detected genes, within mvc"
    )


class PeaksToGenes(Section):
    """Open peaks through an encoder to one vector of a cell, and from it the genes' values."""

    encoder: Literal["transformer", "performer"] = Field(
        "transformer",
        description="softmax attention, or performer: an estimate of it by random features, whose "
        "time grows with the number of peaks, not with its square",
    )
    num_random_features: int = Field(
        256, ge=1, description="performer: features of each head; more are nearer to softmax"
    )
    input_norm: Literal["layer", "batch"] = Field(
        "layer",
        description="of embeddings: each token by itself, or over the real tokens of a batch "
        "(EpiFoundation, whose statistics count padding too)",
    )
    cell_emb_style: Literal["cls", "mean"] = Field(
        "cls", description="a cell's vector: the output at <cls>, or the mean over its real tokens"
    )
    mvc_arch_style: DecoderStyle = Field(
        "concat query",
        description="how a cell's and a gene's vector become a value; gene-specific: by weights of "
        "the gene's own, 16 × hidden_dim for each gene that may be asked for",
    )
    value_head: ValueHead = Field(
        "categorical",
        description="a value is one of n_bins classes, a number (regression), or a number and "
        "whether it is zero (zero_inflated)",
    )
    use_batch_labels: bool = Field(
        False, description="decoders of values are told the cell's batch; its vector is not"
    )
    use_chr_labels: bool = Field(
        True, description="peaks and genes are told their chromosome (vocabulary.gene_chromosomes)"
    )
    task_weight: TaskWeight = Field(TaskWeight(), description="of the parts of the loss")

    @model_validator(mode="after")
    def _every_key_acts(self):
        weight, defaults = self.task_weight, TaskWeight()
        if self.value_head != "zero_inflated":
            for key in ("zero_bce", "value_mse"):
                if getattr(weight, key) != getattr(defaults, key):
                    raise ValueError(
                        f"task_weight.{key} is {getattr(weight, key)} and value_head is "
                        f"{self.value_head}; it weighs the parts of zero_inflated. Leave it out"
                    )
        elif weight.mvc and not (weight.zero_bce or weight.value_mse):
            raise ValueError(
                "task_weight.zero_bce and value_mse are both 0, so that mvc weighs nothing; "
                "expected one of them above 0"
            )
        if not (weight.mvc or weight.cell_type):
            raise ValueError(
                "task_weight.mvc and cell_type are both 0; expected one of them above 0"
            )
        default = type(self).model_fields["num_random_features"].default
        if self.encoder != "performer" and self.num_random_features != default:
            raise ValueError(
                f"num_random_features is {self.num_random_features} and encoder is "
                f"{self.encoder}; it is of the performer. Leave it out"
            )
        return self
