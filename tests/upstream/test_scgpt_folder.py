"""A folder that our pretraining wrote in the real scgpt 0.2.4: the same cells, the same outputs."""

# B cells, T tokens of the longest, N real tokens of all

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.prepared import prepare
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.config.pretrain import Pretrain
from vcpipe.models.scgpt import MaskedValueModel, Predicted
from vcpipe.models.weights import take_weights
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.pretraining import pretrain

pytestmark = [
    pytest.mark.upstream,
    # Of torch's own encoder layers, where some tokens are padding.
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]

SETTINGS = {
    "corpus": "c",
    "masked_values": {"mvc_weight": 1},
    "tokenizer": {"max_genes": 20},
    "model": {"hidden_dim": 16, "num_layers": 2, "num_heads": 4, "ffn_dim": 24, "dropout": 0.1},
    "training": {"batch_size": 16, "max_epochs": 2},
    "optimizer": {"lr": 1e-2},
}
# The released checkpoint and flash-attn 1 say Wqkv; scGPT 0.2.5 puts that under _impl.
NAMINGS = {
    "torch": [],
    "flash": [("in_proj_", "Wqkv.")],
    "impl": [("in_proj_", "Wqkv."), ("self_attn.", "self_attn._impl.")],
}


@pytest.fixture
def folder(screen, tmp_path) -> Path:
    """What pretraining on the tiny screen leaves."""
    alone = Process(0, 1, torch.device("cpu"))
    paths = tmp_path / "state", tmp_path / "pretrained", tmp_path / "metrics.csv"
    pretrain(*prepare(tmp_path / "corpus", screen), Pretrain(**SETTINGS), "code", alone, *paths)
    return tmp_path / "pretrained"


def named(path: Path, naming: str) -> Path:
    """The folder, with the names that others give to attention."""
    weights, args = path / "best_model.pt", json.loads((path / "args.json").read_text())
    state = torch.load(weights, weights_only=True)
    for former, name in NAMINGS[naming]:
        state = {key.replace(former, name): tensor for key, tensor in state.items()}
    torch.save(state, weights)
    # Of the weights as they were named.
    args["vcpipe"]["weights_digest"] = None
    (path / "args.json").write_text(json.dumps(args))
    return path


def cells(vocabulary: Mapping[str, int], pad_value: float) -> dict[str, Tensor]:
    """Three cells of 9, 6 and 8 tokens, <cls> first, and some of their values hidden."""
    generator = torch.Generator().manual_seed(0)
    genes_BT = torch.stack([torch.randperm(30, generator=generator)[:9] for _ in range(3)])
    ids = torch.tensor([vocabulary[f"GENE{number:02d}"] for number in range(30)])
    genes_BT = ids[genes_BT]
    values_BT = torch.randint(0, 51, (3, 9), generator=generator).float()
    genes_BT[:, 0], values_BT[:, 0] = vocabulary["<cls>"], 0
    values_BT[:, 3] = -1
    real_BT = torch.arange(9) < torch.tensor([9, 6, 8])[:, None]
    return {
        "genes": genes_BT.where(real_BT, vocabulary["<pad>"]),
        "values": values_BT.where(real_BT, pad_value),
        "real": real_BT,
    }


def theirs(scgpt, path: Path) -> tuple[nn.Module, Mapping[str, int]]:
    """The model of a folder, as scGPT's tutorials build and fill it, and its vocabulary."""
    args = json.loads((path / "args.json").read_text())
    vocabulary = scgpt.tokenizer.GeneVocab.from_file(path / "vocab.json")
    model = scgpt.model.TransformerModel(
        *(len(vocabulary), args["embsize"], args["nheads"], args["d_hid"], args["nlayers"]),
        nlayers_cls=args["n_layers_cls"],
        vocab=vocabulary,
        dropout=args["dropout"],
        pad_token=args["pad_token"],
        pad_value=args["pad_value"],
        do_mvc=args["MVC"],
    )
    weights = torch.load(path / "best_model.pt", weights_only=True)
    return scgpt.utils.load_pretrained(model, weights, verbose=False).eval(), vocabulary


def ours(path: Path, batch: dict[str, Tensor]) -> Predicted:
    """What our model says of all real tokens."""
    folder = read_folder(path)
    config = MaskedValues(**SETTINGS["masked_values"])
    pad_id = folder.vocabulary.ids["<pad>"]
    model = MaskedValueModel(folder.model, len(folder.vocabulary), pad_id, config).eval()
    take_weights(model, folder.state, ("",), str(path))
    places_N = batch["real"].flatten().nonzero().flatten()
    starts = torch.cat([torch.zeros(1), batch["real"].sum(1).cumsum(0)]).int()
    return model(*(batch["genes"], batch["values"], places_N, starts, torch.arange(len(places_N))))


@pytest.mark.parametrize("naming", ["torch", "flash"])
@torch.no_grad()
def test_scgpt_loads_our_folder_and_says_the_same_of_cells(scgpt, folder, naming):
    model, vocabulary = theirs(scgpt, named(folder, naming))
    batch = cells(vocabulary, pad_value=-2)
    found = model(batch["genes"], batch["values"], ~batch["real"], MVC=True)
    expected = ours(folder, batch)
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(found["mlm_output"][batch["real"]], expected.values_M, **close)
    torch.testing.assert_close(
        found["mvc_output"][batch["real"]], expected.values_of_cells_M, **close
    )
    torch.testing.assert_close(found["cell_emb"], expected.cells_BD, **close)
    assert expected.values_M.std() > 0.01


@pytest.mark.parametrize("naming", NAMINGS)
@torch.no_grad()
def test_we_read_all_three_names_of_attention_and_say_what_scgpt_says(scgpt, folder, naming):
    model, vocabulary = theirs(scgpt, folder)
    batch = cells(vocabulary, pad_value=-2)
    found = model(batch["genes"], batch["values"], ~batch["real"])["mlm_output"]
    expected = ours(named(folder, naming), batch).values_M
    torch.testing.assert_close(found[batch["real"]], expected, atol=1e-5, rtol=0)
