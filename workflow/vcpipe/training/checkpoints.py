"""Model folders in scGPT's layout: best_model.pt, args.json, vocab.json, run.log.

Beside them, of a pretrained model, how its cells were prepared, so that others can be: record.json,
and vocabulary/ with all names (of peaks, chromosomes, batches, further species).
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vcpipe.config.model import Transformer
from vcpipe.data.fitted_corpus import Names, write_names
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
            **about,
        },
    }
    with writing(path) as folder:
        folder.mkdir()
        torch.save(state, folder / "best_model.pt")
        (folder / "args.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        (folder / "vocab.json").write_text(json.dumps(vocabulary.ids, indent=0) + "\n")
        shutil.copyfile(run_log, folder / "run.log")
        if record is not None:
            record.write(folder / "record.json")
        if names is not None:
            write_names(folder / "vocabulary", names)


def read_folder(path: Path) -> ModelFolder:
    """Read a folder of ours or of scGPT's; weights only, nothing in it is executed."""
    path = existing(path, "a folder with best_model.pt, args.json and vocab.json")
    missing = [
        name for name in ("best_model.pt", "args.json", "vocab.json") if not (path / name).exists()
    ]
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
    try:
        state = torch.load(path / "best_model.pt", weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(
            f"{path / 'best_model.pt'} holds no plain weights ({error}); expected a state dict "
            "that torch.load(weights_only=True) reads."
        ) from error
    vocabulary = read_vocabulary(path / "vocab.json")
    if ours and ours["vocabulary_digest"] != vocabulary.digest:
        raise InputError(
            f"{path} expects vocabulary {ours['vocabulary_digest']}, but its vocab.json is "
            f"{vocabulary.digest} ({len(vocabulary)} tokens); it was changed after training."
        )
    return ModelFolder(path, state, model, vocabulary, args)
