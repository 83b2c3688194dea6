"""Model folders in scGPT's layout: best_model.pt, args.json, vocab.json, run.log.

Beside them the same weights as model.safetensors and, of a pretrained model, how its cells were
prepared, so that others can be: record.json, and vocabulary/ with all names (of peaks, chromosomes,
batches, further species).
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vcpipe.config.finetune import FolderSha256
from vcpipe.config.model import Transformer
from vcpipe.data.corpus_names import Names, write_names
from vcpipe.data.preprocessing_record import PreprocessingRecord
from vcpipe.data.vocabulary import PAD, Vocabulary, read_vocabulary
from vcpipe.errors import InputError, listed
from vcpipe.files import digest, existing, read_json, writing

# scGPT's words for the size of a model, in args.json.
WORDS = {
    "embsize": "hidden_dim",
    "nlayers": "num_layers",
    "nheads": "num_heads",
    "d_hid": "ffn_dim",
    "dropout": "dropout",
}
PT, SAFETENSORS = "best_model.pt", "model.safetensors"
OTHERS = ("args.json", "vocab.json")


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    state: dict[str, Tensor]
    model: Transformer
    vocabulary: Vocabulary
    args: dict

    @property
    def about(self) -> dict:
        """What our training noted: settings, digests, code version; empty in scGPT's folders."""
        return self.args.get("vcpipe", {})

    @property
    def digest(self) -> str:
        return digest([self.args, self.vocabulary.digest, weights_digest(self.state)])


def weights_digest(state: dict[str, Tensor]) -> str:
    return digest([[name, hash_tensor(tensor)] for name, tensor in sorted(state.items())])


def hash_tensor(tensor: Tensor) -> str:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()


def write_folder(
    path: Path,
    state: dict[str, Tensor],
    model: Transformer,
    vocabulary: Vocabulary,
    args: dict,
    about: dict,
    run_log: Path,
    record: PreprocessingRecord | None = None,
    names: Names | None = None,
) -> None:
    """Write a folder that scGPT can load; what it does not read stands under args["vcpipe"]."""
    # What a device or a wrapped model holds must not matter to whoever reads it.
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    sizes = {word: getattr(model, ours) for word, ours in WORDS.items()}
    content = {
        **sizes,
        "n_layers_cls": 3,
        "pad_token": PAD,
        **args,
        "vcpipe": {
            "activation": model.activation,
            "norm": model.norm,
            "vocabulary_digest": vocabulary.digest,
            "weights_digest": weights_digest(state),
            **about,
        },
    }
    digests = ("config_digest", "vocabulary_digest", "weights_digest", "objective")
    metadata = {name: str(content["vcpipe"].get(name, "")) for name in digests}
    with writing(path) as folder:
        folder.mkdir()
        torch.save(state, folder / PT)
        safetensors.torch.save_file(
            # Tied weights are one tensor in torch, and two here.
            {name: tensor.clone() for name, tensor in state.items()},
            folder / SAFETENSORS,
            metadata | {"format": "pt"},
        )
        (folder / "args.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        (folder / "vocab.json").write_text(json.dumps(vocabulary.ids, indent=0) + "\n")
        shutil.copyfile(run_log, folder / "run.log")
        if record is not None:
            record.write(folder / "record.json")
        if names is not None:
            write_names(folder / "vocabulary", names)


def check_sha256(path: Path, expected: FolderSha256 | None) -> None:
    """Refuse a folder whose files are not those that were published."""
    for name, sha256 in (expected.by_file() if expected else {}).items():
        with existing(path / name, "a file of the pretrained folder").open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != sha256:
            raise InputError(
                f"{path / name} has SHA-256 {found}; expected {sha256} (pretrained_sha256). "
                "Download the file again, or leave pretrained_sha256 out for a checkpoint of "
                "your own."
            )


def read_folder(path: Path) -> ModelFolder:
    """Read a folder of ours or of scGPT's; weights only, nothing in it is executed."""
    path = existing(path, f"a folder with {PT}, args.json and vocab.json")
    has_weights = (path / PT).exists() or (path / SAFETENSORS).exists()
    missing = [name for name in OTHERS if not (path / name).exists()]
    missing = [*([] if has_weights else [PT]), *missing]
    if missing:
        raise InputError(f"{path} lacks {listed(missing)}; expected scGPT's three files.")
    args = read_json(path / "args.json", "scGPT's arguments")
    absent = [word for word in WORDS if word not in args]
    if absent:
        raise InputError(f"{path / 'args.json'} lacks {listed(absent)}, the size of the model.")
    ours = args.get("vcpipe", {})
    try:
        model = Transformer(
            **{name: args[word] for word, name in WORDS.items()},
            **{name: ours[name] for name in ("activation", "norm") if name in ours},
        )
    except ValueError as error:
        raise InputError(f"{path / 'args.json'} describes no transformer: {error}") from error
    state, file = _read_weights(path)
    vocabulary = read_vocabulary(path / "vocab.json")
    if ours and ours["vocabulary_digest"] != vocabulary.digest:
        raise InputError(
            f"{path} expects vocabulary {ours['vocabulary_digest']}, but its vocab.json is "
            f"{vocabulary.digest} ({len(vocabulary)} tokens); it was changed after training."
        )
    written, found = ours.get("weights_digest"), weights_digest(state) if ours else None
    # Folders of earlier versions do not say.
    if written and written != found:
        raise InputError(
            f"{file} has the digest {found}, but {written} was written; it was damaged or changed "
            f"after training. Copy the folder again, or remove {file.name} where "
            f"{SAFETENSORS if file.name == PT else PT} is whole."
        )
    return ModelFolder(path, state, model, vocabulary, args)


def _read_weights(path: Path) -> tuple[dict[str, Tensor], Path]:
    """The weights of a folder and the file they come from; one of the two kinds is enough."""
    file = path / PT if (path / PT).exists() else path / SAFETENSORS
    try:
        if file.name == PT:
            state = torch.load(file, weights_only=True, map_location="cpu")
        else:
            state = safetensors.torch.load_file(file)
    except Exception as error:
        raise InputError(
            f"{file} holds no plain weights ({error}); expected a state dict that "
            "torch.load(weights_only=True) or safetensors reads. Is it whole?"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(its, Tensor) for its in state.values()):
        raise InputError(f"{file} holds no plain weights; expected {{name: tensor}}.")
    return state, file


def check_architecture(folder: ModelFolder, objective: str, model: Transformer) -> None:
    """Refuse weights of another objective or another size, naming what differs and both values."""
    found = folder.about.get("objective")
    # scGPT's own folders do not say; what it pretrains is masked values.
    its = {"objective": found or "masked_values"} | folder.model.model_dump()
    expected = {"objective": objective} | model.model_dump()
    # Dropout has no weights.
    wrong = [
        f"{name} {its[name]} instead of {expected[name]}"
        for name in expected
        if name != "dropout" and its[name] != expected[name]
    ]
    if wrong:
        raise InputError(
            f"{folder.path} holds another architecture: {listed(wrong)}. Set the run's objective "
            "and model to those of the folder, or start from another one."
        )
