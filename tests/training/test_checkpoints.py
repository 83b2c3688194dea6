import hashlib
import json

import pytest
import safetensors
import torch

from vcpipe.config.finetune import FolderSha256
from vcpipe.config.model import Transformer
from vcpipe.data.vocabulary import build_vocabulary
from vcpipe.errors import InputError
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.training.checkpoints import (
    check_architecture,
    check_sha256,
    read_folder,
    weights_digest,
    write_folder,
)

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=24, dropout=0.1, norm="pre")
VOCABULARY = build_vocabulary(["B", "A"], ["<pad>", "<cls>", "<eoc>"])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.log").write_text("epoch 1\n")
    state = MaskedValueModel(SIZE, len(VOCABULARY), 2).state_dict()
    about = {"objective": "masked_values", "data_digest": "d", "config_digest": "c"}
    write_folder(
        tmp_path / "model", state, SIZE, VOCABULARY, {"n_bins": 51}, about, tmp_path / "run.log"
    )
    return tmp_path / "model"


def edit_args(folder, change):
    args = json.loads((folder / "args.json").read_text())
    change(args)
    (folder / "args.json").write_text(json.dumps(args))


def test_a_folder_has_scgpts_four_files_and_words(folder):
    assert {path.name for path in folder.iterdir()} == {
        "best_model.pt",
        "model.safetensors",
        "args.json",
        "vocab.json",
        "run.log",
    }
    args = json.loads((folder / "args.json").read_text())
    assert (args["embsize"], args["nlayers"], args["nheads"], args["d_hid"]) == (16, 2, 4, 24)
    assert args["n_bins"] == 51


def test_what_was_written_is_read_back(folder):
    model = read_folder(folder)
    assert model.model == SIZE
    assert model.vocabulary == VOCABULARY
    assert model.about["data_digest"] == "d"
    expected = torch.load(folder / "best_model.pt", weights_only=True)
    assert all(torch.equal(model.state[name], expected[name]) for name in expected)


def test_scgpts_own_folder_is_read_with_its_defaults(folder):
    edit_args(folder, lambda args: args.pop("vcpipe"))
    assert read_folder(folder).model == SIZE.model_copy(update={"norm": "post"})


def nudge(folder):
    """Change one weight a little, as a damaged disk may."""
    state = torch.load(folder / "best_model.pt", weights_only=True)
    state["decoder.fc.0.bias"][3] += 1e-6
    torch.save(state, folder / "best_model.pt")


def test_the_digest_follows_every_weight(folder):
    edit_args(folder, lambda args: args["vcpipe"].pop("weights_digest"))
    before = read_folder(folder).digest
    assert read_folder(folder).digest == before
    nudge(folder)
    assert read_folder(folder).digest != before


def test_weights_that_were_changed_after_training_are_refused(folder):
    nudge(folder)
    with pytest.raises(InputError, match=r"best_model\.pt has the digest .* or remove best_model"):
        read_folder(folder)
    (folder / "best_model.pt").unlink()
    assert read_folder(folder).model == SIZE


def test_a_truncated_file_of_weights_is_refused(folder):
    content = (folder / "best_model.pt").read_bytes()
    (folder / "best_model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"best_model\.pt holds no plain weights .* Is it whole\?"):
        read_folder(folder)


def test_the_safetensors_are_the_same_weights_and_say_what_made_them(folder):
    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        metadata, found = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    expected = read_folder(folder)
    assert metadata["vocabulary_digest"] == VOCABULARY.digest
    assert metadata["weights_digest"] == weights_digest(expected.state)
    assert metadata["config_digest"] == "c"
    assert found.keys() == expected.state.keys()
    assert all(torch.equal(found[name], expected.state[name]) for name in found)


def test_a_folder_can_be_moved_and_read_with_either_file_of_weights(folder, tmp_path):
    digest = read_folder(folder).digest
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "best_model.pt").unlink()
    assert read_folder(moved).digest == digest


def test_another_architecture_is_refused_with_names_and_both_values(folder):
    model = read_folder(folder)
    check_architecture(model, "masked_values", SIZE.model_copy(update={"dropout": 0.5}))
    other = SIZE.model_copy(update={"hidden_dim": 32, "norm": "post"})
    message = (
        "objective masked_values instead of next_genes, hidden_dim 16 instead of 32, "
        "norm pre instead of post"
    )
    with pytest.raises(InputError, match=message):
        check_architecture(model, "next_genes", other)


@pytest.mark.parametrize("name", ["best_model.pt", "args.json", "vocab.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    if name == "best_model.pt":
        (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        read_folder(folder)


def test_a_missing_folder_says_what_was_expected(tmp_path):
    with pytest.raises(InputError, match=r"does not exist; expected a folder with best_model\.pt"):
        read_folder(tmp_path / "none")


def test_arguments_without_a_size_are_refused(folder):
    edit_args(folder, lambda args: args.pop("embsize"))
    with pytest.raises(InputError, match="lacks embsize, the size of the model"):
        read_folder(folder)


def test_a_vocabulary_that_was_changed_after_training_is_refused(folder):
    ids = json.loads((folder / "vocab.json").read_text())
    ids["A"], ids["B"] = ids["B"], ids["A"]
    (folder / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(InputError, match=r"expects vocabulary .* it was changed after training"):
        read_folder(folder)


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_checkpoint_is_executed(folder, capsys):
    torch.save({"x": Payload()}, folder / "best_model.pt")
    with pytest.raises(InputError, match="holds no plain weights"):
        read_folder(folder)
    assert "executed" not in capsys.readouterr().out


def test_files_that_are_not_the_published_ones_are_refused_by_name(folder):
    found = hashlib.sha256((folder / "vocab.json").read_bytes()).hexdigest()
    check_sha256(folder, FolderSha256(vocab=found))
    check_sha256(folder, None)
    expected = "0" * 64
    message = rf"vocab\.json has SHA-256 {found}; expected {expected} \(pretrained_sha256\)"
    with pytest.raises(InputError, match=message):
        check_sha256(folder, FolderSha256(vocab=expected))
    (folder / "vocab.json").unlink()
    with pytest.raises(InputError, match=r"vocab\.json does not exist"):
        check_sha256(folder, FolderSha256(vocab=found))
