"""Genes by ascending id with their normalised values; a pretrained vector of each is in the model.

The tokens are those of continuous_projection; what differs is where the model's vectors begin.
"""

from vcpipe.data.tokens.continuous_projection import continuous_projection
from vcpipe.errors import InputError

gene_embedding = continuous_projection


def check_embedding_dim(embedding_dim: int | None, width: int, path) -> None:
    """Refuse a file of gene vectors that is not as wide as the configuration says."""
    if embedding_dim is not None and embedding_dim != width:
        raise InputError(
            f"tokenizer.embedding_dim is {embedding_dim} and {path} has vectors of {width} "
            f"numbers; set embedding_dim to {width} or to null, or give another file."
        )
