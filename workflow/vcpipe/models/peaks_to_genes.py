"""EpiFoundation: open peaks -> one vector of a cell -> the value of any gene that is asked for.

Genes never enter the encoder: a value is read from the cell's vector and the gene's own.
"""

# B cells, T tokens of peaks, P real ones of all cells, D width, G genes that may be asked for,
# N values that are, O numbers of a value, K cell types, Z width of what decoders read of a cell,
# Q width of a query, H hidden

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes
from vcpipe.models.attention import Sequences
from vcpipe.models.gene_tokens import through
from vcpipe.models.layers import TransformerEncoder, pack, unpack
from vcpipe.models.performer import PerformerEncoder

# EpiFoundation's widths.
QUERY, HIDDEN = 128, 128
GENE_QUERY, GENE_HIDDEN = 64, 16


@dataclass(frozen=True)
class Vocabulary:
    """How many names there are, and which genes may be asked for."""

    num_peaks: int
    pad_id: int  # of peaks
    num_genes: int
    num_chromosomes: int
    num_batches: int
    num_cell_types: int
    genes_G: Tensor  # ids
    chromosomes_G: Tensor  # of these genes, 0 to num_chromosomes - 1


class BatchNorm(nn.Module):
    """Batch normalisation over tokens, [N, D], none of which is padding."""

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x_ND: Tensor) -> Tensor:
        mean_D, var_D = self.running_mean, self.running_var
        if self.training:
            mean_D = x_ND.mean(0)
            var_D = (x_ND - mean_D).square().mean(0)
            with torch.no_grad():
                self.running_mean.lerp_(mean_D, self.momentum)
                self.running_var.lerp_(var_D, self.momentum)
        return (x_ND - mean_D) * (var_D + self.eps).rsqrt() * self.weight + self.bias


NORMS = {"layer": nn.LayerNorm, "batch": BatchNorm}


class Embedding(nn.Module):
    """Vectors by number, each normalised."""

    def __init__(self, num: int, width: int, pad_id: int | None = None):
        super().__init__()
        self.embedding = nn.Embedding(num, width, padding_idx=pad_id)
        self.enc_norm = nn.LayerNorm(width)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.enc_norm(self.embedding(ids))


class ConcatQuery(nn.Module):
    """W2 PReLU(W1 [z; q]), with W1 [z; q] as Wz z + Wq q: each is made once, not for each pair."""

    def __init__(self, width: int, cell_width: int, num_genes: int, num_outputs: int):
        super().__init__()
        del num_genes  # one set of weights for all
        self.gene2query = nn.Linear(width, QUERY)
        self.of_cell = nn.Linear(cell_width, HIDDEN)
        self.of_query = nn.Linear(QUERY, HIDDEN, bias=False)
        self.activation = nn.PReLU()
        self.fc2 = nn.Linear(HIDDEN, num_outputs)

    def forward(self, z_BZ: Tensor, genes_GD: Tensor, cell_N: Tensor, gene_N: Tensor) -> Tensor:
        of_query_GH = self.of_query(self.gene2query(genes_GD).sigmoid())
        hidden_NH = rows_of(self.of_cell(z_BZ), cell_N) + rows_of(of_query_GH, gene_N)
        return self.fc2(self.activation(hidden_NH))


class SumQuery(nn.Module):
    """W2 PReLU(W1 (z + q)); a query is as wide as what is read of a cell, its batch included."""

    def __init__(self, width: int, cell_width: int, num_genes: int, num_outputs: int):
        super().__init__()
        del num_genes
        self.gene2query = nn.Linear(width, cell_width)
        self.fc1 = nn.Linear(cell_width, HIDDEN)
        self.activation = nn.PReLU()
        self.fc2 = nn.Linear(HIDDEN, num_outputs)

    def forward(self, z_BZ: Tensor, genes_GD: Tensor, cell_N: Tensor, gene_N: Tensor) -> Tensor:
        of_query_GH = F.linear(self.gene2query(genes_GD).sigmoid(), self.fc1.weight)
        hidden_NH = rows_of(self.fc1(z_BZ), cell_N) + rows_of(of_query_GH, gene_N)
        return self.fc2(self.activation(hidden_NH))


class InnerProduct(nn.Module):
    """z · W q, with a W for each number of a value; taken as (z W) · q, for all genes at once."""

    def __init__(self, width: int, cell_width: int, num_genes: int, num_outputs: int):
        super().__init__()
        del num_genes
        self.gene2query = nn.Linear(width, cell_width)
        self.weight = nn.Parameter(torch.empty(num_outputs, cell_width, cell_width))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        # So that values begin near zero, however wide the vectors are.
        nn.init.normal_(self.weight, std=1 / cell_width)

    def forward(self, z_BZ: Tensor, genes_GD: Tensor, cell_N: Tensor, gene_N: Tensor) -> Tensor:
        query_GZ = self.gene2query(genes_GD).sigmoid()
        of_cell_BOZ = torch.einsum("bz,ozq->boq", z_BZ, self.weight)
        values_BGO = torch.einsum("boq,gq->bgo", of_cell_BOZ, query_GZ)
        return rows_of(values_BGO.flatten(0, 1), cell_N * len(query_GZ) + gene_N) + self.bias


class GeneSpecificConcatQuery(nn.Module):
    """The same as ConcatQuery with weights of each gene's own.

    What depends on the gene alone is one vector for each; the rest is one product with all genes'
    weights. No weights are copied for a cell.
    """

    def __init__(self, width: int, cell_width: int, num_genes: int, num_outputs: int):
        super().__init__()
        self.gene2query = nn.Linear(width, GENE_QUERY)
        self.of_cell = nn.Parameter(torch.empty(num_genes, GENE_HIDDEN, cell_width))
        self.of_query = nn.Parameter(torch.empty(num_genes, GENE_HIDDEN, GENE_QUERY))
        self.bias1 = nn.Parameter(torch.zeros(num_genes, GENE_HIDDEN))
        self.activation = nn.PReLU()
        self.fc2 = nn.Parameter(torch.empty(num_genes, num_outputs, GENE_HIDDEN))
        self.bias2 = nn.Parameter(torch.zeros(num_genes, num_outputs))
        bound = (cell_width + GENE_QUERY) ** -0.5
        nn.init.uniform_(self.of_cell, -bound, bound)
        nn.init.uniform_(self.of_query, -bound, bound)
        nn.init.uniform_(self.fc2, -(GENE_HIDDEN**-0.5), GENE_HIDDEN**-0.5)

    def forward(self, z_BZ: Tensor, genes_GD: Tensor, cell_N: Tensor, gene_N: Tensor) -> Tensor:
        query_GQ = self.gene2query(genes_GD).sigmoid()
        of_gene_GH = torch.einsum("ghq,gq->gh", self.of_query, query_GQ) + self.bias1
        of_cell_BGH = F.linear(z_BZ, self.of_cell.flatten(0, 1)).unflatten(1, of_gene_GH.shape)
        hidden_GBH = self.activation(of_cell_BGH + of_gene_GH).transpose(0, 1)
        values_GBO = torch.bmm(hidden_GBH, self.fc2.transpose(1, 2)) + self.bias2[:, None]
        return rows_of(values_GBO.flatten(0, 1), gene_N * len(z_BZ) + cell_N)


DECODERS = {
    "concat query": ConcatQuery,
    "sum query": SumQuery,
    "inner product": InnerProduct,
    "gene-specific concat query": GeneSpecificConcatQuery,
}


def rows_of(table: Tensor, places: Tensor) -> Tensor:
    return table.index_select(0, places)


class CellTypeDecoder(nn.Module):
    """scGPT's classifier of a cell's vector."""

    def __init__(self, width: int, num_cell_types: int):
        super().__init__()
        self._decoder = nn.Sequential(
            *(
                layer
                for _ in range(2)
                for layer in (nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width))
            )
        )
        self.out_layer = nn.Linear(width, num_cell_types)

    def forward(self, z_BD: Tensor) -> Tensor:
        return self.out_layer(self._decoder(z_BD))


class PeaksToGenesModel(nn.Module):
    def __init__(
        self,
        size: Transformer,
        config: PeaksToGenes,
        vocabulary: Vocabulary,
        n_bins: int,
        seed: int,
    ):
        super().__init__()
        width, norm = size.hidden_dim, NORMS[config.input_norm]
        self.config = config
        self.register_buffer("genes", vocabulary.genes_G)
        self.register_buffer("gene_chromosomes", vocabulary.chromosomes_G)
        self.peak_encoder = Embedding(vocabulary.num_peaks, width, vocabulary.pad_id)
        self.gene_encoder = Embedding(vocabulary.num_genes, width)
        self.chr_encoder = self.batch_encoder = self.cls_decoder = None
        cell_width = width
        if config.use_chr_labels:
            self.chr_encoder = Embedding(vocabulary.num_chromosomes, width)
        if config.use_batch_labels:
            # The last stands for a cell that has no label.
            self.batch_encoder = Embedding(vocabulary.num_batches + 1, width)
            cell_width = 2 * width
        if config.task_weight.cell_type:
            self.cls_decoder = CellTypeDecoder(width, vocabulary.num_cell_types)
        self.dropout = nn.Dropout(size.dropout)
        self.peak_norm, self.gene_norm = norm(width), norm(width)
        if config.encoder == "performer":
            self.encoder = PerformerEncoder(size, config.num_random_features, seed)
        else:
            self.encoder = TransformerEncoder(size)
        self.norm = nn.LayerNorm(width)
        num_outputs = {"categorical": n_bins, "zero_inflated": 2, "regression": 1}
        self.mvc_decoder = DECODERS[config.mvc_arch_style](
            width, cell_width, len(vocabulary.genes_G), num_outputs[config.value_head]
        )

    def forward(
        self,
        peaks_BT: Tensor,
        chromosomes_BT: Tensor,
        place_P: Tensor,
        starts: Tensor,
        cell_N: Tensor,
        gene_N: Tensor,
        batch_B: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Numbers [N, O] of the asked genes of some cells, and logits of cell types [B, K].

        place_P of B × T are the real tokens, cell by cell from the starts on. gene_N are places in
        `genes`, not ids; batch_B is -1 where a cell has no label.
        """
        z_BD = self.cell_vectors(peaks_BT, chromosomes_BT, place_P, starts)
        genes_GD = self._embedded(
            self.gene_encoder, self.genes, self.gene_chromosomes, self.gene_norm
        )
        z_BZ = z_BD
        if self.batch_encoder is not None:
            last = self.batch_encoder.embedding.num_embeddings - 1
            z_BZ = torch.cat([z_BD, self.batch_encoder(batch_B.where(batch_B >= 0, last))], dim=1)
        values_NO = self.mvc_decoder(z_BZ, genes_GD, cell_N, gene_N)
        return values_NO, self.cls_decoder(z_BD) if self.cls_decoder is not None else None

    def embed(self, batch: dict[str, Tensor]) -> Tensor:
        """Vectors of cells, [B, D]; what is asked of them plays no part."""
        return self.cell_vectors(
            *(batch[name] for name in ("peaks", "peak_chromosomes", "places", "starts"))
        )

    def cell_vectors(
        self, peaks_BT: Tensor, chromosomes_BT: Tensor, place_P: Tensor, starts: Tensor
    ) -> Tensor:
        chromosomes_P = pack(chromosomes_BT, place_P)
        x_PD = self._embedded(
            self.peak_encoder, pack(peaks_BT, place_P), chromosomes_P, self.peak_norm
        )
        x_PD = self.norm(self._attended(x_PD, place_P, Sequences(starts, peaks_BT.shape[1])))
        if self.config.cell_emb_style == "cls":
            return x_PD.index_select(0, starts[:-1])
        # Laid out with zeros and summed: adding up by cell has no fixed order on a GPU.
        return unpack(x_PD, place_P, *peaks_BT.shape).sum(1) / starts.diff()[:, None]

    def _attended(self, x_PD: Tensor, place_P: Tensor, sequences: Sequences) -> Tensor:
        if isinstance(self.encoder, TransformerEncoder):
            return through(self.encoder, x_PD, sequences)
        # Features are summed over all keys of a cell at once, so cells are padded.
        starts, longest, _ = sequences
        real_BT = torch.arange(longest, device=starts.device) < starts.diff()[:, None]
        x_BTD = self.encoder(unpack(x_PD, place_P, *real_BT.shape), real_BT)
        return pack(x_BTD, place_P)

    def _embedded(
        self, encoder: Embedding, ids_N: Tensor, chromosomes_N: Tensor, norm: nn.Module
    ) -> Tensor:
        x_ND = encoder(ids_N)
        if self.chr_encoder is not None:
            x_ND = x_ND + self.chr_encoder(chromosomes_N)
        return norm(self.dropout(x_ND))
