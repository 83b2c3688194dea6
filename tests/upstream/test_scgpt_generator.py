"""Finetuning beside the real scgpt 0.2.4: outputs, gradients, folders, and whole runs."""

# B cells, T genes

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from tests.scgpt_loop import gene_ids_of, upstream_epoch, upstream_loader
from vcpipe.config.eval import Verification
from vcpipe.config.finetune import Finetune
from vcpipe.config.model import Transformer
from vcpipe.config.splits import Split
from vcpipe.data.model_cells import model_rows
from vcpipe.data.pairing import Pairs, pair_controls
from vcpipe.data.screen import Screen
from vcpipe.data.splits import SplitTable, draw_controls, draw_split
from vcpipe.data.vocabulary import PAD, Vocabulary, build_vocabulary
from vcpipe.errors import InputError
from vcpipe.models.scgpt import SHARED, MaskedValueModel, TransformerGenerator
from vcpipe.models.weights import take_weights
from vcpipe.objectives.perturbation import perturbation
from vcpipe.training.checkpoints import read_folder, write_folder
from vcpipe.training.distributed import Process
from vcpipe.training.finetuning import finetune
from vcpipe.training.samples import Samples, sample_predictions

pytestmark = [
    pytest.mark.upstream,
    # Of torch's own encoder layers, and of scgpt's autocast.
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
    pytest.mark.filterwarnings("ignore:`torch.cuda.amp.autocast"),
]

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=24, dropout=0.2)
CLOSE = {"atol": 1e-5, "rtol": 0}
ALONE = Process(0, 1, torch.device("cpu"))
BATCH_SIZE, MAX_SEQ_LEN, NUM_EPOCHS, LR = 16, 20, 2, 1e-3
RECIPE = Finetune(
    dataset="d",
    split="s",
    pretrained="p",
    perturbation={
        "gene_aliases": False,
        "unknown_genes": "pad",
        "max_seq_len": MAX_SEQ_LEN,
        "gene_sampling": "upstream",
        "control_partners": "paired_once",
        "always_sample_targets": False,
    },
    optimizer={"lr": LR},
    training={
        "batch_size": BATCH_SIZE,
        "max_epochs": NUM_EPOCHS,
        "log_every_n_steps": 1,
        "early_stopping": {"monitor": "train_loss"},
    },
)
# The released checkpoint and flash-attn 1 say Wqkv; scGPT 0.2.5 puts that under _impl.
NAMINGS = {
    "torch": [],
    "flash": [("in_proj_", "Wqkv.")],
    "impl": [("in_proj_", "Wqkv."), ("self_attn.", "self_attn._impl.")],
}


@dataclass(frozen=True)
class Setting:
    """A screen of which two genes have no token, one of them a target; nothing is held out."""

    screen: Screen
    split: SplitTable
    controls: dict[str, str]
    pairs: Pairs
    vocabulary: Vocabulary
    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"


@pytest.fixture
def setting(screen, generator, tmp_path) -> Setting:
    controls = draw_controls(screen, 1)
    control_row = pair_controls(screen, controls, "cell_type", generator)
    known = [gene for gene in screen.genes if gene not in ("GENE03", "GENE05")]
    # scGPT's own vocabulary has the special tokens behind the genes.
    ids = [*build_vocabulary(known, [PAD, "<cls>"]).names()[2:], PAD, "<cls>", "<eoc>"]
    vocabulary = Vocabulary({name: number for number, name in enumerate(ids)})
    (tmp_path / "run.log").touch()
    torch.manual_seed(1)
    state = MaskedValueModel(SIZE, len(vocabulary), vocabulary.ids[PAD]).state_dict()
    pretrained = (tmp_path / "base", state, SIZE, vocabulary, {}, {}, tmp_path / "run.log")
    write_folder(*pretrained)
    split, _ = draw_split(screen, Split(method="no_split"))
    pairs = Pairs(tmp_path / "pairs.npz", control_row, {})
    return Setting(screen, split, controls, pairs, vocabulary, tmp_path)


@pytest.fixture
def tuned(setting) -> Path:
    """The folder that our finetuning leaves."""
    folder = setting.folder / "tuned"
    finetune(
        *(setting.screen, setting.split, setting.controls, setting.pairs),
        *(read_folder(setting.base), RECIPE, "code", ALONE),
        *(setting.folder / "state", folder, setting.folder / "tuned.csv"),
    )
    return folder


@pytest.fixture
def batch(setting) -> dict[str, Tensor]:
    """As scGPT's loop gives it; genes without a token and flags are among its genes."""
    torch.manual_seed(5)
    cells = np.arange(len(setting.screen.cells))
    beside = np.where(setting.pairs.control_row < 0, cells, setting.pairs.control_row)
    loader = upstream_loader(setting.screen, beside, cells, BATCH_SIZE)
    gene_ids = gene_ids_of(setting.screen, setting.vocabulary)
    batch = next(upstream_epoch(loader, gene_ids, len(gene_ids)))
    assert (batch["mapped_input_gene_ids"] == setting.vocabulary.ids[PAD]).sum() == 2 * BATCH_SIZE
    assert batch["input_pert_flags"].sum() > 4
    return batch


def their_model(scgpt, path: Path, prefix: list[str] | None) -> nn.Module:
    """A folder's model as the tutorial builds it, with weights by scGPT's own load_pretrained."""
    args = json.loads((path / "args.json").read_text())
    vocab = scgpt.tokenizer.GeneVocab.from_file(path / "vocab.json")
    model = scgpt.model.TransformerGenerator(
        *(len(vocab), args["embsize"], args["nheads"], args["d_hid"], args["nlayers"]),
        nlayers_cls=args["n_layers_cls"],
        n_cls=1,
        vocab=vocab,
        dropout=0,
        pad_token=PAD,
        pad_value=0,
        pert_pad_id=0,
    )
    weights = torch.load(path / "best_model.pt", weights_only=True)
    return scgpt.utils.load_pretrained(model, weights, prefix=prefix, verbose=False)


def our_model(path: Path) -> TransformerGenerator:
    folder = read_folder(path)
    size = folder.model.model_copy(update={"dropout": 0.0})
    model = TransformerGenerator(size, len(folder.vocabulary), folder.vocabulary.ids[PAD])
    take_weights(model, folder.state, ("",), str(path))
    return model


def their_output(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    inputs = ("mapped_input_gene_ids", "input_values", "input_pert_flags")
    mask = torch.zeros_like(batch["input_values"], dtype=torch.bool)
    return model(*(batch[name] for name in inputs), src_key_padding_mask=mask)["mlm_output"]


def as_ours(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "genes": batch["mapped_input_gene_ids"][0],
        "control": batch["input_values"],
        "flags": batch["input_pert_flags"],
        "perturbed": batch["target_values"],
    }


def our_output(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    its = as_ours(batch)
    return model(its["genes"], its["control"], its["flags"])


def test_the_same_weights_give_the_same_outputs_and_gradients_in_training(scgpt, tuned, batch):
    ours, theirs = our_model(tuned).train(), their_model(scgpt, tuned, None).train()

    loss, count = perturbation(ours, as_ours(batch), RECIPE.perturbation, torch.Generator())
    (loss / count).backward()
    output = their_output(theirs, batch)
    everywhere = torch.ones_like(output, dtype=torch.bool)
    their_loss = scgpt.loss.masked_mse_loss(output, batch["target_values"], everywhere)
    their_loss.backward()

    torch.testing.assert_close(our_output(ours, batch), output, **CLOSE)
    torch.testing.assert_close(loss / count, their_loss, **CLOSE)
    theirs_by_name = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        if name.startswith("cls_decoder."):
            assert weight.grad is theirs_by_name[name].grad is None
        else:
            torch.testing.assert_close(weight.grad, theirs_by_name[name].grad, **CLOSE)
            assert weight.grad.any(), name


@torch.no_grad()
def test_the_same_weights_give_the_same_outputs_in_prediction(scgpt, tuned, batch):
    ours, theirs = our_model(tuned).eval(), their_model(scgpt, tuned, None).eval()
    found = our_output(ours, batch)
    torch.testing.assert_close(found, their_output(theirs, batch), **CLOSE)
    assert found.std() > 0.1


@pytest.mark.parametrize("naming", NAMINGS)
@torch.no_grad()
def test_their_folder_is_read_whatever_it_calls_attention(scgpt, tuned, batch, naming):
    """What scGPT saves of a whole model, under each of the three names."""
    theirs = their_model(scgpt, tuned, None).eval()
    state = theirs.state_dict()
    for former, name in NAMINGS[naming]:
        state = {key.replace(former, name): tensor for key, tensor in state.items()}
    torch.save(state, tuned / "best_model.pt")
    args = json.loads((tuned / "args.json").read_text())
    args.pop("vcpipe")
    (tuned / "args.json").write_text(json.dumps(args))
    found = our_output(our_model(tuned).eval(), batch)
    torch.testing.assert_close(found, their_output(theirs, batch), **CLOSE)


def test_scgpt_takes_every_weight_of_our_finetuned_folder(scgpt, tuned):
    weights = torch.load(tuned / "best_model.pt", weights_only=True)
    taken = their_model(scgpt, tuned, None).state_dict()
    assert taken.keys() == weights.keys()
    assert all(torch.equal(taken[name], weights[name]) for name in weights)


def test_a_whole_run_is_that_of_scgpts_loop(scgpt, setting, tuned):
    """The same draws, losses and weights: Adam, clipping, StepLR, and two epochs of batches."""
    model = their_model(scgpt, setting.base, ["encoder", "value_encoder", "transformer_encoder"])
    # What is not loaded starts at random, ours and theirs alike.
    torch.manual_seed(RECIPE.training.seed)
    vocabulary = setting.vocabulary
    drawn = TransformerGenerator(SIZE, len(vocabulary), vocabulary.ids[PAD]).state_dict()
    drawn = {name: tensor for name, tensor in drawn.items() if not name.startswith(SHARED)}
    model.load_state_dict(drawn, strict=False)

    rows = model_rows(setting.screen, setting.split, setting.controls)
    losses = []
    torch.manual_seed(RECIPE.training.seed)
    loader = upstream_loader(setting.screen, setting.pairs.control_row, rows["train"], BATCH_SIZE)
    gene_ids = gene_ids_of(setting.screen, vocabulary)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)
    for _ in range(NUM_EPOCHS):
        model.train()
        for batch in upstream_epoch(loader, gene_ids, MAX_SEQ_LEN):
            output = their_output(model, batch)
            everywhere = torch.ones_like(output, dtype=torch.bool)
            loss = scgpt.loss.masked_mse_loss(output, batch["target_values"], everywhere)
            model.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()

    metrics = pd.read_csv(setting.folder / "tuned.csv").dropna(subset="grad_norm")
    assert len(losses) == NUM_EPOCHS * 6
    np.testing.assert_allclose(metrics["train_loss"], losses, **CLOSE)
    # Clipping was at work.
    assert (metrics["grad_norm"] > 1).any()
    found, expected = read_folder(tuned).state, model.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        ours, theirs = found[name], weight
        if name.endswith("in_proj_bias"):
            # The bias of keys changes no output. Its gradient is rounding, which Adam makes steps.
            ours, theirs = ([one.chunk(3)[part] for part in (0, 2)] for one in (ours, theirs))
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.fixture
def samples(setting, tuned) -> Samples:
    config = Verification(num_conditions=3, num_cells=2)
    return sample_predictions(setting.screen, setting.split, setting.controls, tuned, config)


@pytest.fixture
def verify(scgpt, samples, tuned, monkeypatch) -> Callable[[], dict]:
    """What the rule's script does, in this process; of the samples, or of changed ones."""
    # Where its version is written.
    monkeypatch.syspath_prepend(Path(scgpt.__path__[0]).parent)
    from vcpipe.training import real_scgpt

    def run(samples: Samples = samples) -> dict:
        samples.write(tuned / "samples.npz")
        return real_scgpt.verify(tuned, tuned / "samples.npz", tolerance=1e-5)

    return run


def test_scgpt_predicts_our_samples_and_what_it_took_is_counted(verify, tuned, samples):
    parity = verify()
    assert parity["max_abs_difference"] <= 1e-5
    assert parity["correlation"] > 0.999999
    assert parity["num_cells"] == 6
    assert 10 < parity["num_genes"] <= MAX_SEQ_LEN
    assert len(parity["conditions"]) == 3
    state = read_folder(tuned).state
    assert parity["tensors_loaded"] == len(state)
    assert parity["weights_loaded"] == sum(tensor.numel() for tensor in state.values())
    assert parity["versions"]["scgpt"] == "0.2.4"
    # The perturbed genes were among the genes, and flagged: without flags the numbers are others.
    targets = {its.split("+")[0] for its in samples.conditions}
    assert targets <= set(samples.genes)
    unflagged = replace(samples, conditions=np.array(["ctrl"] * 6))
    with pytest.raises(InputError, match="scgpt predicts"):
        verify(unflagged)


def test_another_prediction_is_an_error_that_says_where(verify, samples):
    other = samples.predicted.copy()
    other[3, 7] += 0.5
    place = rf"for {samples.genes[7]} under {samples.conditions[3]}".replace("+", r"\+")
    with pytest.raises(InputError, match=rf"scgpt predicts .* {place}, .*0\.5 apart"):
        verify(replace(samples, predicted=other))


def test_a_weight_that_scgpt_does_not_take_is_an_error(verify, tuned):
    state = torch.load(tuned / "best_model.pt", weights_only=True)
    state["decoder.bias_decoder.fc.last.bias"] = state.pop("decoder.bias_decoder.fc.4.bias")
    torch.save(state, tuned / "best_model.pt")
    with pytest.raises(InputError, match=r"took 55 of the 56 .* it lacks decoder\.bias_decoder"):
        verify()
