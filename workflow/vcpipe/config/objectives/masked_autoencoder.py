"""pretrain.<run>.masked_autoencoder: scModelForge's architecture of that name."""

from typing import Annotated, Literal

from pydantic import Field

from vcpipe.config.model import Transformer
from vcpipe.config.section import Section


class MaskedAutoencoder(Section):
    """Encode the genes of a cell that are not hidden, decode the values of those that are."""

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="share of genes that the encoder does not get"
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="cell embedding: the output at <cls>, or the mean over all real tokens"
    )
    decoder_dim: int | None = Field(
        None, ge=8, description="width of the decoder; null: half of model.hidden_dim"
    )
    decoder_layers: int = Field(4, ge=1, le=96, description="blocks of the decoder")
    decoder_heads: int | None = Field(
        None, ge=1, description="its attention heads; null: model.num_heads"
    )

    def decoder_size(self, encoder: Transformer) -> dict[str, int]:
        """Width and heads, with what null stands for."""
        width = encoder.hidden_dim // 2 if self.decoder_dim is None else self.decoder_dim
        heads = encoder.num_heads if self.decoder_heads is None else self.decoder_heads
        return {"hidden_dim": width, "num_heads": heads}
