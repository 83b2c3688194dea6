"""What parts of a step of pretraining take, as JSON: ours and the other way in turns, CPU time.

python -m tests.benchmarks.pretraining_programs NAME [SCGPT], with the folder that holds scgpt.
"""

# B cells, T tokens of the longest, N real tokens of all, M hidden ones, D width, G genes

import json
import logging
import sys
import time
import types
from collections.abc import Callable
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vcpipe.config.fitting import Fit
from vcpipe.config.model import Transformer
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.config.tokens import Tokenizer
from vcpipe.config.training import Optimizer
from vcpipe.data.cell_keys import cell_keys
from vcpipe.data.cell_store.cells import cells_of
from vcpipe.data.draws import Draw
from vcpipe.data.rows import Rows
from vcpipe.data.tokens.collate import collate
from vcpipe.data.tokens.fitted import Fitted
from vcpipe.data.tokens.masking import hidden_values
from vcpipe.data.tokens.packing import Specials, starts_of
from vcpipe.data.tokens.tokenize import recipe_of
from vcpipe.models.attention import Sequences
from vcpipe.models.layers import SelfAttention, TransformerEncoder, pack
from vcpipe.models.scgpt import CellValueDecoder, GeneEncoder, MaskedValueModel, ValueEncoder
from vcpipe.objectives.masked_values import masked_values
from vcpipe.training.optimisers import build_optimizer

REPEATS = 7
BINS = 51
RATIO = 0.4
# <cls>, <pad>, then the genes; scGPT's values of padding and of hidden ones.
SPECIAL = Specials(0, 1, -1, 0, -2, -1)
FIRST_GENE = 2


def in_turns(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int = REPEATS
) -> dict:
    """CPU milliseconds of both, after each has run once."""
    found = {"ours": [], "peer": []}
    for turn in range(repeats + 1):
        for name, work in (("ours", ours), ("peer", peer)):
            before = time.process_time()
            work()
            if turn:
                found[name].append(1000 * (time.process_time() - before))
    return found


def with_grads(work: Callable[[], Tensor], weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    for weight in weights:
        weight.grad = None
    out = work()
    out.backward(ramp(out.shape))
    return out.detach(), [weight.grad.clone() for weight in weights]


@cache
def ramp(shape: torch.Size) -> Tensor:
    """Another gradient for each number: after a layer norm, those of a sum or squares are zero."""
    return torch.linspace(-1, 1, max(shape.numel(), 2))[: shape.numel()].view(shape)


class PaddedAttention(SelfAttention):
    """Over padded cells with a mask; what stands for sequences is False at padding."""

    def forward(self, x_BTD: Tensor, real_BT: Tensor, is_causal: bool = False) -> Tensor:
        qkv = F.linear(x_BTD, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv, attn_mask=real_BT[:, None, None])
        return self.out_proj(out.transpose(1, 2).flatten(2))


def packed_vs_padded() -> dict:
    """Two layers of scGPT's width; cells of 420 to 1,536 genes."""
    lengths, size = [420, 1536, 760, 1130], Transformer(num_layers=2, dropout=0.0)
    torch.manual_seed(0)
    encoder, padded = TransformerEncoder(size), TransformerEncoder(size)
    padded.load_state_dict(encoder.state_dict())
    for layer in padded.layers:
        layer.self_attn.__class__ = PaddedAttention
    longest, width = max(lengths), size.hidden_dim
    real_BT = torch.arange(longest) < torch.tensor(lengths)[:, None]
    place_N = real_BT.flatten().nonzero().squeeze(1)
    sequences = Sequences(torch.from_numpy(starts_of(np.array(lengths))).int(), longest)
    x_BTD = torch.randn(len(lengths), longest, width)
    x_ND = pack(x_BTD, place_N)

    def ours() -> Tensor:
        return encoder.forward_packed(x_ND, sequences)

    def peer() -> Tensor:
        return pack(padded._through(x_BTD, real_BT, False), place_N)

    made = [
        with_grads(work, list(its.parameters())) for work, its in ((ours, encoder), (peer, padded))
    ]
    torch.testing.assert_close(*(out for out, _ in made), atol=1e-4, rtol=1e-4)
    for one, other in zip(*(grads for _, grads in made), strict=True):
        assert (one - other).norm() < 1e-4 * other.norm()

    def flops(lengths: list[int]) -> int:
        linear = 8 * width * width + 4 * width * size.ffn_dim
        return sum(length * (linear + 4 * length * width) for length in lengths)

    ratio = flops([longest] * len(lengths)) / flops(lengths)
    found = in_turns(
        lambda: with_grads(ours, list(encoder.parameters())),
        lambda: with_grads(peer, list(padded.parameters())),
    )
    return found | {"flop_ratio": ratio}


def masked_head() -> dict:
    """Logits and cross-entropy of 4 × 512 tokens, forward and backward."""
    num_genes, width, num_tokens = 25_000, 256, 2048
    torch.manual_seed(0)
    head = nn.Linear(width, num_genes)
    x_ND = torch.randn(num_tokens, width, requires_grad=True)
    hidden_M = torch.randperm(num_tokens)[: int(0.15 * num_tokens)].sort().values
    genes_M = torch.randint(num_genes, hidden_M.shape)
    labels_N = torch.full((num_tokens,), -100).index_copy(0, hidden_M, genes_M)

    def ours() -> Tensor:
        return F.cross_entropy(head(x_ND.index_select(0, hidden_M)), genes_M)

    def peer() -> Tensor:
        return F.cross_entropy(head(x_ND), labels_N)

    weights = [*head.parameters(), x_ND]
    torch.testing.assert_close(with_grads(ours, weights), with_grads(peer, weights))
    return in_turns(lambda: with_grads(ours, weights), lambda: with_grads(peer, weights))


def scgpt_model(folder: Path) -> types.ModuleType:
    """scgpt.model.model, which imports nothing of its package but two small files beside it."""
    for name, path in (("scgpt", folder / "scgpt"), ("scgpt.model", folder / "scgpt/model")):
        package = types.ModuleType(name)
        package.__path__, package.logger = [str(path)], logging.getLogger("scGPT")
        sys.modules[name] = package
    from scgpt.model import model

    return model


def version_of(folder: Path) -> str:
    its = next(its for its in distributions(path=[str(folder)]) if its.name.lower() == "scgpt")
    return f"scgpt {its.version}, torch {torch.__version__}"


def heads_values(folder: Path) -> dict:
    """64 cells of 600 bins, width 256."""
    torch.manual_seed(0)
    ours = ValueEncoder(256, 0.0, range(-1, BINS))
    theirs = scgpt_model(folder).ContinuousValueEncoder(256, 0.0)
    theirs.load_state_dict(ours.state_dict())
    values_BT = torch.randint(-1, BINS, (64, 600)).float()
    assert torch.equal(ours(values_BT), theirs(values_BT))
    both = [(its, list(its.parameters())) for its in (ours, theirs)]
    # Sums over so many tokens are compared in double precision.
    made = [with_grads(lambda its=its: its.double()(values_BT.double()), w) for its, w in both]
    torch.testing.assert_close(made[0][1], made[1][1])
    ours.float(), theirs.float()
    one, other = (lambda i=i, w=w: with_grads(lambda: i(values_BT), w) for i, w in both)
    return in_turns(one, other) | {"version": version_of(folder)}


def heads_mvc(folder: Path) -> dict:
    """64 cells of 600 of 1,200 chosen genes, 40 % of them hidden, width 256."""
    num_genes, width, num_tokens = 1200, 256, 600
    torch.manual_seed(0)
    encoder, ours = GeneEncoder(num_genes, width, 0), CellValueDecoder(width)
    theirs = scgpt_model(folder).MVCDecoder(width)
    theirs.load_state_dict(ours.state_dict())
    genes_BT = torch.stack([torch.randperm(num_genes - 1)[:num_tokens] + 1 for _ in range(64)])
    cells_BD = torch.randn(64, width, requires_grad=True)
    scored_M = torch.randperm(genes_BT.numel())[: int(RATIO * genes_BT.numel())].sort().values
    genes_M, cell_M = genes_BT.flatten()[scored_M], scored_M // num_tokens
    # Both have the tokens' embeddings at hand, which the encoder has read.
    embedded_BTD = encoder(genes_BT).detach().requires_grad_()

    def ours_M() -> Tensor:
        return ours(cells_BD, encoder, genes_M, cell_M)

    def theirs_M() -> Tensor:
        return theirs(cells_BD, embedded_BTD)["pred"].flatten().index_select(0, scored_M)

    of_ours = [*ours.parameters(), cells_BD, *encoder.parameters()]
    of_theirs = [*theirs.parameters(), cells_BD, embedded_BTD]
    made = with_grads(ours_M, of_ours), with_grads(theirs_M, of_theirs)
    torch.testing.assert_close(made[0][0], made[1][0], atol=1e-3, rtol=1e-3)
    for name, one, other in zip(
        ("query", "bias", "W", "cells"), *(grads[:4] for _, grads in made), strict=True
    ):
        assert (one - other).norm() < 1e-3 * other.norm(), name
    found = in_turns(lambda: with_grads(ours_M, of_ours), lambda: with_grads(theirs_M, of_theirs))
    return found | {"version": version_of(folder)}


def heads_decoder(folder: Path) -> dict:
    """Values of the hidden tokens, 40 % of 64 × 600, beside those of all."""
    torch.manual_seed(0)
    model = scgpt_model(folder)
    ours = MaskedValueModel(Transformer(hidden_dim=256, num_layers=1), 10, 0).decoder
    theirs = model.ExprDecoder(256)
    theirs.load_state_dict(ours.state_dict())
    x_ND = torch.randn(64 * 600, 256, requires_grad=True)
    scored_M = torch.randperm(len(x_ND))[: int(RATIO * len(x_ND))].sort().values

    def ours_M() -> Tensor:
        return ours(x_ND.index_select(0, scored_M))

    def theirs_M() -> Tensor:
        return theirs(x_ND.view(64, 600, -1))["pred"].flatten().index_select(0, scored_M)

    of_ours, of_theirs = [*ours.parameters(), x_ND], [*theirs.parameters(), x_ND]
    made = with_grads(ours_M, of_ours), with_grads(theirs_M, of_theirs)
    torch.testing.assert_close(made[0][0], made[1][0], atol=1e-4, rtol=1e-4)
    for one, other in zip(*(grads for _, grads in made), strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()
    found = in_turns(lambda: with_grads(ours_M, of_ours), lambda: with_grads(theirs_M, of_theirs))
    return found | {"version": version_of(folder)}


def some_cells(num_cells: int, num_genes: int, median: int) -> Rows:
    """Cells whose numbers of detected genes differ as those of atlases do, and their counts."""
    generator = np.random.default_rng(0)
    lengths = (median * generator.lognormal(0, 0.5, num_cells)).astype(np.int64)
    lengths = lengths.clip(20, num_genes)
    ids = [np.sort(generator.choice(num_genes, size, replace=False)) for size in lengths]
    counts = generator.geometric(0.35, lengths.sum()).astype(np.uint32)
    starts = starts_of(lengths)
    totals = np.add.reduceat(counts, starts[:-1]).astype(np.uint64)
    keys = cell_keys("bench", [str(number) for number in range(num_cells)])
    return Rows(starts, (np.concatenate(ids) + FIRST_GENE).astype(np.int32), counts, totals, keys)


def as_scgpt_reads(rows: Rows, chosen: range) -> list[dict[str, Tensor]]:
    """<cls> and a cell's genes; the collator writes bins into the expressions that it is given."""
    made = []
    for cell in chosen:
        its = slice(rows.starts[cell], rows.starts[cell + 1])
        genes = np.append(SPECIAL.cls_id, rows.ids[its]).astype(np.int64)
        values = np.append(SPECIAL.cls_value, rows.counts[its]).astype(np.float32)
        made.append({"genes": torch.from_numpy(genes), "expressions": torch.from_numpy(values)})
    return made


class Collators:
    """Our batches and scGPT's, of the same cells."""

    def __init__(self, folder: Path, rows: Rows, max_length: int):
        scgpt_model(folder)
        from scgpt.data_collator import DataCollator

        config = Tokenizer(max_genes=max_length, truncation="random")
        self.rows, self.cells = rows, cells_of(rows)
        self.recipe, self.hiding = recipe_of(config, Fitted(Fit())), hidden_values([RATIO])
        self.peer = DataCollator(
            pad_token_id=SPECIAL.pad_id,
            pad_value=SPECIAL.pad_value,
            mlm_probability=RATIO,
            mask_value=SPECIAL.mask_value,
            max_length=max_length,
        )

    def ours(self, chosen: range) -> dict[str, np.ndarray]:
        cells, draw = np.arange(chosen.start, chosen.stop), Draw(0, 0)
        made = collate(
            *(self.cells, cells, self.rows.keys[cells], self.recipe, SPECIAL, draw),
            hiding=self.hiding,
            is_padded=True,
        )
        return made.padded()


def check_alike(rows: Rows, ours: dict, theirs: dict, max_length: int) -> None:
    """Cells that fit have the same genes; bins are equal, or among those that a tie may have."""
    values_BT = ours["values"].copy()
    values_BT[ours["chosen"]] = ours["target_values"]
    num_fit = 0
    for cell, (genes_T, values_T, real_T) in enumerate(
        zip(ours["genes"], values_BT, ours["real"], strict=True)
    ):
        its = slice(rows.starts[cell], rows.starts[cell + 1])
        if its.stop - its.start >= max_length:
            continue
        num_fit += 1
        assert np.array_equal(genes_T, theirs["gene"][cell].numpy())
        counts = rows.counts[its].astype(np.float64)
        edges = np.quantile(counts, np.linspace(0, 1, BINS - 1))
        most, fewest = np.digitize(counts, edges), np.digitize(counts, edges, right=True)
        # A value that is an edge of its own takes the bin above.
        fewest = np.where(most - fewest == 1, most, fewest)
        for found in (values_T[real_T][1:], theirs["expr"][cell].numpy()[real_T][1:]):
            assert (found <= most).all()
            assert (found >= fewest).all()
    assert num_fit > len(values_BT) // 3
    shares = (
        ours["chosen"].sum() / (ours["real"].sum() - len(values_BT)),
        float(
            (theirs["masked_expr"] == SPECIAL.mask_value).sum()
            / (ours["real"].sum() - len(values_BT))
        ),
    )
    assert max(abs(share - RATIO) for share in shares) < 0.02


def collate_pretrain(folder: Path) -> dict:
    """Eight batches of 64 cells of 20 to 6,000 genes, half of them above 1,220; 1,536 tokens."""
    rows = some_cells(512, 20_000, 1220)
    collators, parts = (
        Collators(folder, rows, 1536),
        [range(at, at + 64) for at in range(0, 512, 64)],
    )
    first = as_scgpt_reads(rows, parts[0])
    check_alike(rows, collators.ours(parts[0]), collators.peer(first), 1536)
    waiting: list[list] = []

    def peer() -> None:
        for examples in waiting.pop():
            collators.peer(examples)

    def ours() -> None:
        for part in parts:
            collators.ours(part)

    waiting += [[as_scgpt_reads(rows, part) for part in parts] for _ in range(REPEATS + 1)]
    return in_turns(ours, peer) | {"version": version_of(folder)}


def step_pretrain(folder: Path) -> dict:
    """32 cells of up to 600 tokens, 4 layers of 128, 3,000 genes."""
    width, num_layers, heads, max_length, num_genes = 128, 4, 4, 600, 3000
    rows = some_cells(256, num_genes, 500)
    collators, parts = (
        Collators(folder, rows, max_length),
        [range(at, at + 32) for at in range(0, 256, 32)],
    )
    torch.manual_seed(0)
    size = Transformer(
        hidden_dim=width, num_layers=num_layers, num_heads=heads, ffn_dim=width, dropout=0.0
    )
    config, num_tokens = MaskedValues(mask_ratio=[RATIO], mvc_weight=1), num_genes + FIRST_GENE
    ours = MaskedValueModel(size, num_tokens, SPECIAL.pad_id, config, bins=range(-1, BINS))
    theirs = scgpt_model(folder).TransformerModel(
        *(num_tokens, width, heads, width, num_layers),
        vocab={"<pad>": SPECIAL.pad_id},
        dropout=0.0,
        do_mvc=True,
    )
    from scgpt.loss import masked_mse_loss

    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    # It has a head for cell types, whether they are learned or not.
    assert all(name.startswith("cls_decoder.") for name in missing)
    assert not unexpected

    def our_loss(batch: dict[str, np.ndarray]) -> Tensor:
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        loss, count = masked_values(ours, tensors, config, torch.Generator())
        return loss / count

    def their_loss(genes: Tensor, masked: Tensor, values: Tensor) -> Tensor:
        out = theirs(genes, masked, genes == SPECIAL.pad_id, MVC=True)
        hidden = masked == SPECIAL.mask_value
        return sum(
            masked_mse_loss(out[name], values, hidden) for name in ("mlm_output", "mvc_output")
        )

    # The same batch through both.
    batch = collators.ours(parts[0])
    values = batch["values"].copy()
    values[batch["chosen"]] = batch["target_values"]
    same = (torch.from_numpy(batch["genes"]).long(), torch.from_numpy(batch["values"]))
    torch.testing.assert_close(
        our_loss(batch), their_loss(*same, torch.from_numpy(values)), rtol=1e-4, atol=1e-4
    )
    padding = 1 - batch["real"].mean()
    optimizers = build_optimizer(ours, Optimizer()), torch.optim.Adam(theirs.parameters(), lr=1e-4)

    def update(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    turns = {"ours": 0, "peer": 0}

    def next_part(who: str) -> range:
        turns[who] += 1
        return parts[turns[who] % len(parts)]

    # Made before time begins: theirs are overwritten by the collator.
    examples = [as_scgpt_reads(rows, parts[turn % len(parts)]) for turn in range(1, REPEATS + 2)]

    def our_step() -> None:
        update(ours, optimizers[0], our_loss(collators.ours(next_part("ours"))))

    def their_step() -> None:
        next_part("peer")
        made = collators.peer(examples[turns["peer"] - 1])
        loss = their_loss(made["gene"], made["masked_expr"], made["expr"])
        update(theirs, optimizers[1], loss)

    return in_turns(our_step, their_step) | {"version": version_of(folder), "padding": padding}


PROGRAMS = {
    program.__name__: program
    for program in (
        *(packed_vs_padded, masked_head, heads_values, heads_mvc, heads_decoder),
        *(collate_pretrain, step_pretrain),
    )
}

if __name__ == "__main__":
    name, *folders = sys.argv[1:]
    sys.stdout, out = sys.stderr, sys.stdout
    print(json.dumps(PROGRAMS[name](*map(Path, folders))), file=out)
