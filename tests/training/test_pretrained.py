"""Runs that start from the weights of another folder."""

import pytest
import torch

from tests.prepared import prepare
from vcpipe.config.pipeline import Pipeline, contradictions
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.vocabulary import Vocabulary
from vcpipe.errors import InputError
from vcpipe.models.scgpt import MaskedValueModel
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process
from vcpipe.training.pretrained import start_from
from vcpipe.training.pretraining import pretrain

TABLE = "encoder.embedding.weight"
SETTINGS = {
    "corpus": "c",
    "tokenizer": {"strategy": "continuous_projection", "max_genes": 12},
    "model": {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "ffn_dim": 8},
    "optimizer": {"lr": 1e-12},
    "training": {"max_epochs": 1},
}


@pytest.fixture
def run(screen, tmp_path):
    """Pretrains on the tiny screen, of all its genes or of some and others."""

    def made(name: str, genes=None, **changes):
        prepared = prepare(tmp_path / f"{name}-corpus", screen, genes=genes)
        config = Pretrain(**(SETTINGS | changes))
        paths = tmp_path / "state", tmp_path / name, tmp_path / f"{name}.csv"
        pretrain(*prepared, config, "code", Process(0, 1, torch.device("cpu")), *paths)
        return read_folder(tmp_path / name)

    return made


def test_a_run_starts_from_the_weights_of_a_folder_and_says_so(run):
    base = run("base", optimizer={"lr": 1e-2}, training={"max_epochs": 1, "seed": 7})
    second = run("second", pretrained=str(base.path))
    for name, tensor in second.state.items():
        torch.testing.assert_close(tensor, base.state[name], atol=1e-9, rtol=0)
    assert second.about["pretrained_digest"] == base.digest
    log = (second.path / "run.log").read_text()
    assert f"loaded {len(base.state)} tensors" in log


def test_another_vocabulary_is_an_error_unless_rows_are_to_be_found_by_name(run, screen):
    base = run("base", training={"max_epochs": 1, "seed": 7})
    genes = ["NEW", *screen.genes[10:]]
    with pytest.raises(
        InputError, match=r"expects vocab\.json .* set pretrained_vocabulary: remap"
    ):
        run("other", genes, pretrained=str(base.path))
    remapped = run("other", genes, pretrained=str(base.path), pretrained_vocabulary="remap")
    for gene in (screen.genes[10], screen.genes[29], "<cls>"):
        row, expected = remapped.vocabulary.ids[gene], base.vocabulary.ids[gene]
        torch.testing.assert_close(
            remapped.state[TABLE][row], base.state[TABLE][expected], atol=1e-9, rtol=0
        )
    log = (remapped.path / "run.log").read_text()
    assert f"{TABLE}: 22 of 23 rows found by name" in log


@pytest.fixture
def remap():
    return Pretrain(**SETTINGS, pretrained="x", pretrained_vocabulary="remap")


def test_a_vocabulary_without_a_common_gene_is_refused(run, remap):
    base, other = run("base"), Vocabulary({"<cls>": 0, "<pad>": 1, "mt-Co1": 2})
    model = MaskedValueModel(remap.model, len(other), 1)
    with pytest.raises(InputError, match="knows none of the 3 genes of this corpus"):
        start_from(base, model, other, None, remap)


def test_a_model_without_tables_of_genes_cannot_be_remapped(run, remap):
    base = run("base")
    with pytest.raises(InputError, match="Linear has no table of genes"):
        start_from(base, torch.nn.Linear(2, 2), base.vocabulary, None, remap)


def test_another_size_is_refused_before_training(run):
    base = run("base")
    with pytest.raises(InputError, match="num_layers 1 instead of 2"):
        run("deeper", pretrained=str(base.path), model=SETTINGS["model"] | {"num_layers": 2})


def test_runs_of_the_configuration_must_fit_where_they_start():
    with pytest.raises(ValueError, match="pretrained is null, so nothing reads it"):
        Pretrain(corpus="c", pretrained_vocabulary="remap")
    run = {"corpus": "c", "pretrained": "results/pretrain/first/checkpoint"}
    pipeline = Pipeline(
        atlases={"a": {"rna": {"paths": ["a.h5ad"]}}},
        preprocess={"c": {"atlases": ["a"]}},
        pretrain={"first": run, "second": run | {"model": {"num_layers": 3}}},
    )
    assert contradictions(pipeline) == [
        "pretrain.first.pretrained is its own folder; expected that of another run",
        "pretrain.second.model.num_layers is 3, but pretrain.first, where it starts from, has 12; "
        "expected the same",
    ]
