"""What finetuning and predicting take beside scGPT's own, as JSON: in turns, CPU time.

python -m tests.benchmarks.perturbation_programs NAME SCGPT, with the folder that holds scgpt.
"""

# B cells, G genes of the screen, T genes of a step

import json
import logging
import sys
import types
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.benchmarks.pretraining_programs import in_turns, version_of
from vcpipe.config.finetune import Perturbation
from vcpipe.config.model import Transformer
from vcpipe.config.training import Optimizer
from vcpipe.models.embedding_rows import keep_rows
from vcpipe.models.scgpt import TransformerGenerator
from vcpipe.objectives.perturbation import perturbation
from vcpipe.training.distributed import Process
from vcpipe.training.gradients import Gradients
from vcpipe.training.optimisers import build_optimizer
from vcpipe.training.prediction import gene_chunks

NUM_TOKENS, PAD_ID = 60_697, 60_694  # of the whole-human checkpoint
ALONE = Process(0, 1, torch.device("cpu"))
NUM_GENES = 18_080  # of VCC


def scgpt_of(folder: Path) -> tuple[types.ModuleType, types.ModuleType, types.ModuleType]:
    """scGPT's generator, loss and utilities, without its package's __init__."""
    package = types.ModuleType("scgpt")
    package.__path__, package.logger = [str(folder / "scgpt")], logging.getLogger("scGPT")
    model = types.ModuleType("scgpt.model")
    model.__path__ = [str(folder / "scgpt/model")]
    sys.modules |= {"scgpt": package, "scgpt.model": model}
    return tuple(
        import_module(f"scgpt.{name}") for name in ("model.generation_model", "loss", "utils.util")
    )


def both_models(folder: Path, size: Transformer) -> tuple[nn.Module, nn.Module]:
    """Ours and scGPT's, with the same weights."""
    torch.manual_seed(0)
    ours = TransformerGenerator(size, NUM_TOKENS, PAD_ID)
    generator, *_ = scgpt_of(folder)
    theirs = generator.TransformerGenerator(
        *(NUM_TOKENS, size.hidden_dim, size.num_heads, size.ffn_dim, size.num_layers),
        nlayers_cls=3,
        n_cls=1,
        vocab={"<pad>": PAD_ID},
        dropout=0.0,
        pad_token="<pad>",
        pad_value=0,
        pert_pad_id=0,
        use_fast_transformer=False,
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def step_perturbation(folder: Path, dtype: torch.dtype | None = None) -> dict:
    """8 cells of 512 genes among 18,080, 2 layers of 128: as the tutorial's loop does it, and ours.

    Ours has the gene's rows of the embedding only, and genes that the batch shares once.
    """
    size = Transformer(hidden_dim=128, num_layers=2, num_heads=8, ffn_dim=128, dropout=0.0)
    ours, theirs = both_models(folder, size)
    _, losses, utilities = scgpt_of(folder)
    generator = np.random.default_rng(0)
    gene_ids_G = np.sort(generator.permutation(PAD_ID)[:NUM_GENES])
    control_BG, perturbed_BG = generator.random((2, 8, NUM_GENES), dtype=np.float32)
    flags_BG = np.zeros((8, NUM_GENES), dtype=np.int64)
    flags_BG[np.arange(8), generator.integers(NUM_GENES, size=8)] = 1
    theirs_BG = [torch.from_numpy(its) for its in (control_BG, flags_BG, perturbed_BG)]
    rows = keep_rows(ours, "encoder.embedding", gene_ids_G)
    places_G = rows.places(gene_ids_G)
    optimizers = (
        build_optimizer(ours, Optimizer()),
        torch.optim.Adam(theirs.parameters(), lr=1e-4),
    )
    arithmetic = {"device_type": "cpu", "dtype": dtype, "enabled": dtype is not None}
    turns = {"ours": 0, "peer": 0}

    def chosen(who: str) -> Tensor:
        """The same genes for both, as the tutorial draws them."""
        turns[who] += 1
        drawn = torch.Generator().manual_seed(turns[who])
        return torch.randperm(NUM_GENES, generator=drawn)[:512]

    def their_step() -> float:
        genes_T = chosen("peer")
        values, flags, target = (its[:, genes_T] for its in theirs_BG)
        mapped = utilities.map_raw_id_to_vocab_id(genes_T, gene_ids_G).repeat(8, 1)
        padding = torch.zeros_like(values, dtype=torch.bool)
        with torch.autocast(**arithmetic):
            out = theirs(mapped, values, flags, src_key_padding_mask=padding)["mlm_output"]
            loss = losses.masked_mse_loss(out, target, torch.ones_like(values, dtype=torch.bool))
        theirs.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizers[1].step()
        return loss.item()

    gradients = Gradients([its for its in ours.parameters() if its.requires_grad], ALONE)

    def our_step() -> float:
        genes = chosen("ours").numpy()
        batch = {
            "genes": torch.from_numpy(places_G[genes]),
            "control": torch.from_numpy(control_BG[:, genes]),
            "flags": torch.from_numpy(flags_BG[:, genes]),
            "perturbed": torch.from_numpy(perturbed_BG[:, genes]),
        }
        with torch.autocast(**arithmetic):
            loss, count = perturbation(ours, batch, Perturbation(), torch.Generator())
        gradients.forget()
        loss.backward()
        gradients.scale(torch.tensor(1 / count), 1.0)
        optimizers[0].step()
        return loss.item() / count

    # Updates of the same weights on the same batches: each loss follows from those before.
    for _ in range(3):
        np.testing.assert_allclose(our_step(), their_step(), rtol=1e-5 if dtype is None else 1e-2)
    if dtype is None:
        found, expected = rows.filled(ours.state_dict()), theirs.state_dict()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-5)
    return in_turns(our_step, their_step) | {"version": version_of(folder)}


def step_perturbation_bf16(folder: Path) -> dict:
    """The same in bfloat16 where autocast allows it, on both sides."""
    return step_perturbation(folder, torch.bfloat16)


def infer_18k(folder: Path) -> dict:
    """A cell of 18,080 genes, 1 layer of 256: in chunks of 1,536 genes, and all at once.

    All at once is our own model: scGPT's, in eval mode, would take 10 GB for the scores of a cell.
    """
    size = Transformer(hidden_dim=256, num_layers=1, num_heads=8, ffn_dim=256, dropout=0.0)
    ours, theirs = both_models(folder, size)
    generator = np.random.default_rng(0)
    genes_G = torch.from_numpy(np.sort(generator.permutation(PAD_ID)[:NUM_GENES]))
    control_BG = torch.from_numpy(generator.random((1, NUM_GENES), dtype=np.float32))
    flags_BG = torch.zeros(1, NUM_GENES, dtype=torch.int64)
    flags_BG[0, 77] = 1
    ours.eval(), theirs.eval()

    def predicted(genes: Tensor) -> Tensor:
        return ours(genes_G[genes], control_BG[:, genes], flags_BG[:, genes])

    def full() -> Tensor:
        return predicted(torch.arange(NUM_GENES))

    def chunked() -> Tensor:
        out_BG = torch.empty_like(control_BG)
        for chunk in gene_chunks(NUM_GENES, [77], 1536, np.random.default_rng(1)):
            genes = torch.from_numpy(chunk)
            out_BG[:, genes] = predicted(genes)
        return out_BG

    with torch.inference_mode():
        some = torch.arange(1536)
        padding = torch.zeros(1, 1536, dtype=torch.bool)
        given = genes_G[some][None], control_BG[:, some], flags_BG[:, some]
        expected = theirs(*given, src_key_padding_mask=padding)["mlm_output"]
        torch.testing.assert_close(predicted(some), expected, rtol=1e-4, atol=1e-4)
        # Every gene once, beside other genes than where all are there.
        both = torch.stack([chunked(), full()]).flatten(1)
        correlation = float(torch.corrcoef(both)[0, 1])
        return in_turns(chunked, full, repeats=3) | {
            "version": version_of(folder),
            "correlation": correlation,
        }


PROGRAMS = {its.__name__: its for its in (step_perturbation, step_perturbation_bf16, infer_18k)}

if __name__ == "__main__":
    name, folder = sys.argv[1:]
    sys.stdout, out = sys.stderr, sys.stdout
    print(json.dumps(PROGRAMS[name](Path(folder))), file=out)
