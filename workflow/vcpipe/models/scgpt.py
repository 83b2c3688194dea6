"""scGPT's networks, module for module and name for name, so that weights move both ways."""

# B cells, T tokens, D width, N scored tokens

import torch
from torch import Tensor, nn

from vcpipe.config.model import Transformer
from vcpipe.models.layers import TransformerEncoder

# What finetuning takes from a pretrained folder: the seed's three prefixes.
SHARED = ("encoder.", "value_encoder.", "transformer_encoder.")


class GeneEncoder(nn.Module):
    def __init__(self, num_tokens: int, hidden_dim: int, pad_id: int):
        super().__init__()
        self.embedding = nn.Embedding(num_tokens, hidden_dim, padding_idx=pad_id)
        self.enc_norm = nn.LayerNorm(hidden_dim)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, genes_BT: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(genes_BT))


class ValueEncoder(nn.Module):
    """A number -> a vector; values above 512 are cut, as in scGPT."""

    def __init__(self, hidden_dim: int, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(1, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values_BT: Tensor) -> Tensor:
        x_BTD = self.linear1(values_BT.unsqueeze(-1).clamp(max=512))
        return self.dropout(self.norm(self.linear2(torch.relu(x_BTD))))


class ValueDecoder(nn.Module):
    """A token's vector -> its value."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).squeeze(-1)


class AffineDecoder(nn.Module):
    """The predicted value is coefficient x control value + bias, both read from the token."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.coeff_decoder = ValueDecoder(hidden_dim)
        self.bias_decoder = ValueDecoder(hidden_dim)

    def forward(self, x_BTD: Tensor, values_BT: Tensor) -> Tensor:
        return self.coeff_decoder(x_BTD) * values_BT + self.bias_decoder(x_BTD)


class ClassDecoder(nn.Module):
    """scGPT's TransformerGenerator carries this head; nothing here uses or trains it."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self._decoder = nn.ModuleList(
            layer
            for _ in range(2)
            for layer in (nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.LayerNorm(hidden_dim))
        )
        self.out_layer = nn.Linear(hidden_dim, 1)
        self.requires_grad_(False)


class MaskedValueModel(nn.Module):
    """Gene and value embeddings, a transformer, and a value for each token that is asked for."""

    def __init__(self, config: Transformer, num_tokens: int, pad_id: int):
        super().__init__()
        self.encoder = GeneEncoder(num_tokens, config.hidden_dim, pad_id)
        self.value_encoder = ValueEncoder(config.hidden_dim, config.dropout)
        self.transformer_encoder = TransformerEncoder(config)
        self.decoder = ValueDecoder(config.hidden_dim)

    def forward(
        self, genes_BT: Tensor, values_BT: Tensor, real_BT: Tensor | None, scored_BT: Tensor
    ) -> Tensor:
        """Predict the values at scored_BT only, as a vector of N; the head sees no other token."""
        x_BTD = self.encoder(genes_BT) + self.value_encoder(values_BT)
        return self.decoder(self.transformer_encoder(x_BTD, real_BT)[scored_BT])


class TransformerGenerator(nn.Module):
    """Control cell and perturbation flags in, perturbed cell out."""

    def __init__(self, config: Transformer, num_tokens: int, pad_id: int):
        super().__init__()
        self.encoder = GeneEncoder(num_tokens, config.hidden_dim, pad_id)
        self.value_encoder = ValueEncoder(config.hidden_dim, config.dropout)
        # Row 0 (not perturbed) is padding and stays zero; row 2 exists in scGPT's layout only.
        self.pert_encoder = nn.Embedding(3, config.hidden_dim, padding_idx=0)
        self.transformer_encoder = TransformerEncoder(config)
        self.decoder = AffineDecoder(config.hidden_dim)
        self.cls_decoder = ClassDecoder(config.hidden_dim)

    def forward(self, genes_T: Tensor, control_BT: Tensor, flags_BT: Tensor) -> Tensor:
        """Every cell of a batch has the same genes, so none is padded."""
        x_BTD = self.encoder(genes_T) + self.value_encoder(control_BT) + self.pert_encoder(flags_BT)
        return self.decoder(self.transformer_encoder(x_BTD), control_BT)
