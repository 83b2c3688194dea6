"""What scgpt 0.2.4 makes of our folders, as JSON: run by its own Python, never by ours.

python tests/upstream/finetune_scgpt.py FOLDER: tiny/ and pretrained/ are in FOLDER. The path is
that of scGPT's perturbation tutorial on cell-gears 0.0.2's loaders: read, finetune, predict, score.
"""

import json
from pathlib import Path

import numpy as np
import torch
from gears import PertData
from offline import answer, name_of_cell
from scgpt.loss import masked_mse_loss
from scgpt.model import TransformerGenerator
from scgpt.tokenizer.gene_tokenizer import GeneVocab
from scgpt.utils import compute_perturbation_metrics, load_pretrained, map_raw_id_to_vocab_id

# B cells of a batch, G genes, T genes of a step

BATCH_SIZE = 16
# Fewer than the screen has, so that every step draws its genes.
MAX_SEQ_LEN = 60
PAD = "<pad>"
LOADED = ["encoder", "value_encoder", "transformer_encoder"]


def main(folder: Path) -> dict:
    torch.manual_seed(0)
    data = open_folder(folder)
    found = {name: graphs(data, loader) for name, loader in data.dataloader.items()}
    vocabulary, gene_ids = read_genes(folder / "pretrained", data)
    model, loaded = read_model(folder / "pretrained", vocabulary)
    before = mse(model, data, gene_ids)
    losses = train(model, data.dataloader["train_loader"], gene_ids)
    return {
        "set2conditions": data.set2conditions,
        "subgroup": data.subgroup,
        "graphs": found,
        "genes_without_id": int((gene_ids == vocabulary[PAD]).sum()),
        "loaded": loaded,
        "losses": losses,
        "mse_before": before,
        "mse_after": mse(model, data, gene_ids),
        "metrics": {name: metrics(model, data, gene_ids, name) for name in ("val", "test")},
    }


def open_folder(folder: Path) -> PertData:
    data = PertData(str(folder))
    data.load(data_path=str(folder / "tiny"))
    data.prepare_split(split="simulation", seed=1)
    data.get_dataloader(batch_size=BATCH_SIZE, test_batch_size=BATCH_SIZE)
    return data


def graphs(data: PertData, loader) -> dict:
    """One batch's shapes; the names of the two cells that each graph holds, and its flags."""
    name_of = name_of_cell(data)
    genes = data.adata.var["gene_name"].tolist()
    batch = next(iter(loader))
    return {
        "num_graphs": batch.num_graphs,
        "x": list(batch.x.shape),
        "y": list(batch.y.shape),
        "cells": [
            {
                "control": name_of[graph.x[:, 0].numpy().tobytes()],
                "cell": name_of[graph.y[0].numpy().tobytes()],
                "pert": graph.pert,
                "flags": sorted(set(graph.x[:, 1].tolist())),
                "flagged": [genes[place] for place in graph.x[:, 1].nonzero().flatten().tolist()],
                "de_idx": np.asarray(graph.de_idx).tolist(),
            }
            for graph in loader.dataset
        ],
    }


def read_genes(pretrained: Path, data: PertData) -> tuple[GeneVocab, np.ndarray]:
    """The vocabulary, and the id of each measured gene in it; an unknown gene has <pad>'s."""
    vocabulary = GeneVocab.from_file(pretrained / "vocab.json")
    for token in (PAD, "<cls>", "<eoc>"):
        if token not in vocabulary:
            vocabulary.append_token(token)
    vocabulary.set_default_index(vocabulary[PAD])
    genes = data.adata.var["gene_name"].tolist()
    return vocabulary, np.array([vocabulary[gene] for gene in genes], dtype=int)


def read_model(pretrained: Path, vocabulary: GeneVocab) -> tuple[TransformerGenerator, dict]:
    """The model as args.json describes it, and how much of the checkpoint found its place."""
    args = json.loads((pretrained / "args.json").read_text())
    model = TransformerGenerator(
        len(vocabulary),
        args["embsize"],
        args["nheads"],
        args["d_hid"],
        args["nlayers"],
        nlayers_cls=args["n_layers_cls"],
        n_cls=1,
        vocab=vocabulary,
        dropout=0.0,
        pad_token=PAD,
        pad_value=0,
        pert_pad_id=0,
    )
    weights = torch.load(pretrained / "best_model.pt", map_location="cpu", weights_only=True)
    load_pretrained(model, weights, prefix=LOADED, verbose=False)
    own = {name: value for name, value in model.state_dict().items() if is_loaded(name)}
    taken = [name for name in own if name in weights and torch.equal(own[name], weights[name])]
    return model, {"expected": list(own), "taken": taken}


def is_loaded(name: str) -> bool:
    return name.partition(".")[0] in LOADED


def train(model: TransformerGenerator, loader, gene_ids: np.ndarray) -> list[float]:
    """An epoch of the tutorial's training: a random set of genes for each batch, plain MSE."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    model.train()
    for batch in loader:
        size = len(batch.y)
        control_BG = batch.x[:, 0].view(size, -1)
        flags_BG = batch.x[:, 1].long().view(size, -1)
        genes_T = torch.randperm(control_BG.shape[1])[:MAX_SEQ_LEN]
        ids_BT = map_raw_id_to_vocab_id(genes_T, gene_ids).repeat(size, 1)
        predicted_BT = model(
            ids_BT,
            control_BG[:, genes_T],
            flags_BG[:, genes_T],
            src_key_padding_mask=torch.zeros_like(ids_BT, dtype=torch.bool),
        )["mlm_output"]
        target_BT = batch.y[:, genes_T]
        loss = masked_mse_loss(predicted_BT, target_BT, torch.ones_like(target_BT))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def predictions(model: TransformerGenerator, loader, gene_ids: np.ndarray) -> dict:
    """Every cell of a loader predicted by scGPT, in the form that its metrics read."""
    conditions, predicted, measured, de_idx = [], [], [], []
    for batch in loader:
        found = model.pred_perturb(batch, include_zero_gene="all", gene_ids=gene_ids, amp=False)
        conditions += batch.pert
        predicted.append(found.numpy().astype(float))
        measured.append(batch.y.numpy().astype(float))
        de_idx += [np.asarray(places) for places in batch.de_idx]
    pred, truth, places = np.concatenate(predicted), np.concatenate(measured), np.stack(de_idx)
    return {
        "pert_cat": np.array(conditions),
        "pred": pred,
        "truth": truth,
        "pred_de": np.take_along_axis(pred, places, axis=1),
        "truth_de": np.take_along_axis(truth, places, axis=1),
    }


def mse(model: TransformerGenerator, data: PertData, gene_ids: np.ndarray) -> dict:
    """Of each loader's cells, over all genes."""
    found = {name: predictions(model, loader, gene_ids) for name, loader in data.dataloader.items()}
    return {name: float(np.mean((one["pred"] - one["truth"]) ** 2)) for name, one in found.items()}


def metrics(model: TransformerGenerator, data: PertData, gene_ids: np.ndarray, part: str) -> dict:
    found = predictions(model, data.dataloader[f"{part}_loader"], gene_ids)
    controls = data.adata[data.adata.obs["condition"] == "ctrl"]
    scores = compute_perturbation_metrics(found, controls)
    scores["mse_de"] = np.mean((found["pred_de"] - found["truth_de"]) ** 2)
    return {name: float(value) for name, value in scores.items()}


if __name__ == "__main__":
    answer(main)
