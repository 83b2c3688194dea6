"""The size of a transformer."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section


class Transformer(Section):
    """Defaults are the whole-human scGPT's."""

    hidden_dim: int = Field(512, ge=8, description="width (scGPT: embsize)")
    num_layers: int = Field(12, ge=1, le=96, description="blocks (scGPT: nlayers)")
    num_heads: int = Field(8, ge=1, description="attention heads; divides hidden_dim")
    ffn_dim: int = Field(512, ge=8, description="width of the feed-forward layer (scGPT: d_hid)")
    dropout: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="of values and layers; attention weights are never dropped (scGPT: they, too)",
    )
    activation: Literal["relu", "gelu"] = Field("relu", description="of the feed-forward layer")
    norm: Literal["post", "pre"] = Field("post", description="layer norm after or before a block")

    @model_validator(mode="after")
    def _heads_divide_the_width(self):
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"hidden_dim is {self.hidden_dim} and num_heads is {self.num_heads}; "
                "expected hidden_dim to be a multiple of num_heads"
            )
        return self
