"""How much of a pretrained model moves when it is finetuned."""

from pydantic import Field

from vcpipe.config.section import Section


class Lora(Section):
    """Low-rank changes of weight matrices, which themselves stay (Hu et al. 2021)."""

    rank: int = Field(8, ge=1, le=1024, description="numbers per row and column of a change")
    alpha: float = Field(16.0, gt=0, description="a change is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of what changes are made from")
    targets: list[str] = Field(
        ["transformer_encoder.*"],
        min_length=1,
        description="names of linear layers that change, * stands for anything; attention's joint "
        "query, key and value projection is called self_attn.in_proj",
    )


class Adapting(Section):
    """Shared by all kinds of finetuning."""

    freeze: list[str] = Field(
        [],
        description="weights that stay as they are, by how their names begin: encoder.embedding., "
        "value_encoder., transformer_encoder.layers.0.",
    )
    lora: Lora | None = Field(
        None,
        description="learn low-rank changes of the pretrained weights, which stay, and the new "
        "ones; null: all weights move",
    )
