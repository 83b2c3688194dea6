"""A finetuned folder in the real scgpt: all its weights taken, and the same cells predicted.

Runs in the env scgpt, which has none of our packages but numpy and torch.
"""

# C cells, T genes

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from vcpipe.errors import InputError, listed
from vcpipe.files import existing

try:
    from scgpt.model import TransformerGenerator
    from scgpt.tokenizer.gene_tokenizer import GeneVocab
    from scgpt.utils import load_pretrained
except ModuleNotFoundError as error:
    raise InputError(
        f"{error.name} is not installed in {sys.prefix}; make env NAME=scgpt installs it in "
        ".venvs/scgpt, whose Python runs verify_scgpt."
    ) from error

PAD = "<pad>"


def verify(folder: Path, samples: Path, tolerance: float) -> dict:
    """Compare; what differs by more than the tolerance is an error."""
    with np.load(existing(samples, "what predict_samples writes"), allow_pickle=False) as file:
        its = dict(file)
    model, gene_ids, taken = read_model(folder, its["tokens"].tolist())
    theirs_CT = predict(model, gene_ids, its)
    difference_CT = np.abs(theirs_CT - its["predicted"])
    cell, gene = np.unravel_index(difference_CT.argmax(), difference_CT.shape)
    largest = float(difference_CT[cell, gene])
    if not largest <= tolerance:
        raise InputError(
            f"scgpt predicts {theirs_CT[cell, gene]:.6g} for {its['genes'][gene]} under "
            f"{its['conditions'][cell]}, and we {its['predicted'][cell, gene]:.6g} from the same "
            f"{folder}: {largest:.2g} apart; expected at most {tolerance:g} "
            "(eval.verification.tolerance). The weights or their names mean something else there."
        )
    pair = np.stack([theirs_CT.ravel(), its["predicted"].ravel()]).astype(np.float64)
    return {
        "max_abs_difference": largest,
        "tolerance": tolerance,
        "correlation": float(np.corrcoef(pair)[0, 1]),
        "conditions": sorted(set(its["conditions"].tolist())),
        "num_cells": len(its["control"]),
        "num_genes": len(its["genes"]),
        "genes_shown_as_pad": int((gene_ids == model.pad_token_id).sum()),
        "tensors_loaded": len(taken),
        "weights_loaded": sum(tensor.numel() for tensor in taken.values()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("scgpt", "torch", "numpy")},
        },
    }


def read_model(
    folder: Path, tokens: list[str]
) -> tuple[TransformerGenerator, np.ndarray, dict[str, Tensor]]:
    """The model and the ids of genes as scGPT's tutorial makes them, and the weights it took."""
    args = json.loads(existing(folder / "args.json", "a finetuned folder").read_text())
    vocab = GeneVocab.from_file(folder / "vocab.json")
    vocab.set_default_index(vocab[PAD])
    model = TransformerGenerator(
        *(len(vocab), args["embsize"], args["nheads"], args["d_hid"], args["nlayers"]),
        nlayers_cls=args["n_layers_cls"],
        n_cls=1,
        vocab=vocab,
        dropout=args["dropout"],
        pad_token=args["pad_token"],
        pad_value=0,
        pert_pad_id=0,
    )
    weights = torch.load(folder / "best_model.pt", map_location="cpu", weights_only=True)
    load_pretrained(model, weights, verbose=False)
    taken = _taken(model, weights)
    missing = [name for name in model.state_dict() if name not in taken]
    if missing:
        raise InputError(
            f"scgpt took {len(taken)} of the {len(model.state_dict())} weights of its model from "
            f"{folder}, without a word; it lacks {listed(missing)}."
        )
    return model, np.array([vocab[token] for token in tokens]), taken


def _taken(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """load_pretrained skips what does not fit; what it took is what the model now holds."""
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in weights and torch.equal(tensor, weights[name])
    }


@torch.no_grad()
def predict(
    model: TransformerGenerator, gene_ids: np.ndarray, samples: dict[str, np.ndarray]
) -> np.ndarray:
    """By scGPT's own pred_perturb, of batches as cell-gears 0.0.2 makes them."""
    found = []
    for condition in dict.fromkeys(samples["conditions"].tolist()):
        control_CT = samples["control"][samples["conditions"] == condition]
        flags_T = np.isin(samples["genes"], condition.split("+")).astype(np.float32)
        flags_CT = np.broadcast_to(flags_T, control_CT.shape)
        x = np.stack([control_CT.ravel(), flags_CT.ravel()], axis=1)
        batch = SimpleNamespace(
            x=torch.from_numpy(x), pert=[condition] * len(control_CT), to=lambda device: None
        )
        found.append(
            model.pred_perturb(batch, include_zero_gene="all", gene_ids=gene_ids, amp=False)
        )
    return torch.cat(found).numpy()
