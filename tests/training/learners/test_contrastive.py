"""Contrastive pretraining of two species, from a store to a folder, and over two processes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.objectives.test_contrastive import batch_of_six, model_of, of_cells
from tests.two_species import GENES, prepare_species
from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.gene_embeddings import write_aligned
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.view_batches import WholeCellBatches
from vcpipe.errors import InputError
from vcpipe.objectives.contrastive import contrastive
from vcpipe.training.checkpoints import read_folder
from vcpipe.training.distributed import Process, gathering, shared, total
from vcpipe.training.learners.contrastive import read_contrastive, viewed_cells
from vcpipe.training.learners.learner import PreparedCells
from vcpipe.training.pretraining import pretrain

PROJECT = Path(__file__).parents[3]
ALONE = Process(0, 1, torch.device("cpu"))
CONFIG = {
    "corpus": "c",
    "objective": "contrastive",
    "contrastive": {
        "panels": {"panel_size_min": 12, "panel_size_max": 0.5},
        "masking_rate": 0.2,
        "mlm_loss_weight": 0.1,
        "loss_switch_step": 4,
    },
    "model": {
        **{"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, "dropout": 0.0},
        **{"norm": "pre", "activation": "gelu"},
    },
    "val_fraction": 0.2,
    "loading": {"strategy": "within_group"},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "training": {"batch_size": 12, "max_epochs": 1},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_species(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def run(prepared, tmp_path):
    def run(name="model", embeddings=None, **changes):
        config = Pretrain.model_validate(CONFIG | changes)
        paths = (tmp_path / "state", tmp_path / name, tmp_path / f"{name}.csv")
        store, names, record = prepared
        names = replace(names, embeddings=embeddings)
        progress = pretrain(store, names, record, config, "code", ALONE, *paths)
        return read_folder(tmp_path / name), progress

    return run


def contrast(**changes) -> dict:
    return {"contrastive": CONFIG["contrastive"] | changes}


def embedded(folder, prepared) -> torch.Tensor:
    """The cells of a store by the model of a folder."""
    config = Pretrain.model_validate(folder.about["config"])
    reader = StoreReader(prepared.store)
    viewed = viewed_cells(PreparedCells(*prepared), config.contrastive)
    batches, cells = WholeCellBatches(viewed, config, reader), np.arange(len(reader))
    batch = batches.batch(reader.read(cells), cells, BatchDraw(0, 0))
    with torch.no_grad():
        return read_contrastive(folder).embed(
            {name: torch.from_numpy(array) for name, array in batch.items()}
        )


def test_a_folder_of_two_species_reads_back_and_embeds_cells(run, prepared):
    folder, progress = run()
    assert progress.epoch == 1
    assert folder.args["species"] == {"human": 34, "mouse": 44}
    assert folder.vocabulary.ids["<cls>"] == 0
    assert folder.vocabulary.ids["human:GENE00"] == 4
    assert folder.vocabulary.ids["mouse:Gene00"] == 34 + 4
    cells = embedded(folder, prepared)
    assert cells.shape == (len(prepared.store.sets["train"]), 16)
    torch.testing.assert_close(cells.norm(dim=1), torch.ones(len(cells)))
    assert cells.std(dim=0).max() > 0.01


def test_views_of_a_cell_are_found_among_those_of_new_cells(run):
    _, progress = run(
        scheduler={"name": "constant"},
        training={"batch_size": 12, "max_epochs": 12},
        contrastive={"panels": CONFIG["contrastive"]["panels"], "loss_switch_step": None},
    )
    losses = [row[-1] for row in progress.rows if row[-1] is not None]
    # Among 12 cells by chance: log(12) = 2.48.
    assert min(losses) < 2.2 < 2.4 < losses[0]


def test_one_species_keeps_its_plain_names(tmp_path):
    prepared = prepare_species(tmp_path / "corpus", ["human"])
    paths = (tmp_path / "state", tmp_path / "model", tmp_path / "model.csv")
    pretrain(*prepared, Pretrain.model_validate(CONFIG), "code", ALONE, *paths)
    assert "GENE00" in read_folder(tmp_path / "model").vocabulary.ids


def write_panels(folder: Path, **genes: list[str]) -> Path:
    for species, its in genes.items():
        (folder / species).mkdir(parents=True)
        (folder / species / "small.csv").write_text("\n".join(["Ensembl_ID", *its]) + "\n")
    return folder


def of_folder(folder: Path, **panels) -> dict:
    its = {"panel_selection": "mixed", "panel_min_genes": 10, "folder": str(folder)}
    return contrast(panels=CONFIG["contrastive"]["panels"] | its | panels)


def test_panels_of_files_are_part_of_what_a_run_is(run, tmp_path):
    one = write_panels(tmp_path / "one", human=GENES["human"][:15], mouse=GENES["mouse"][:15])
    first, _ = run("first", **of_folder(one))
    (one / "human/small.csv").write_text("\n".join(["Ensembl_ID", *GENES["human"][9:25]]))
    second, _ = run("second", **of_folder(one))
    assert first.about["config_digest"] == second.about["config_digest"]
    assert first.about["panels_digest"] != second.about["panels_digest"]
    assert first.digest != second.digest


def test_random_panels_of_small_datasets_are_reported(run, tmp_path):
    folder = write_panels(tmp_path / "few", human=GENES["human"], mouse=GENES["mouse"])
    model, _ = run(**of_folder(folder, panel_min_genes=35))
    log = (model.path / "run.log").read_text()
    assert "panels of human_atlas are random: it measured 30 genes" in log
    assert "panels of mouse_atlas" not in log


def test_a_species_without_panels_is_refused(run, tmp_path):
    folder = write_panels(tmp_path / "one", human=GENES["human"])
    with pytest.raises(InputError, match=r"mouse has no panel"):
        run(**of_folder(folder))


def test_vectors_of_the_vocabulary_are_read_and_saved_with_the_weights(run, prepared, tmp_path):
    names, generator = prepared.names.vocabularies, np.random.default_rng(0)
    with pytest.raises(InputError, match=r"pretrained_embeddings is true, but .* has no vectors"):
        run(**contrast(pretrained_embeddings=True))
    for species, vocabulary in names.genes.items():
        vectors = generator.normal(size=(len(vocabulary), 5)).astype(np.float32)
        path = tmp_path / "vectors" / f"{species}.safetensors"
        path.parent.mkdir(exist_ok=True)
        write_aligned(path, vectors, np.ones(len(vocabulary), bool), vocabulary.digest)
    settings = contrast(pretrained_embeddings=True, use_learnable_embs_freq=0.5)
    folder, _ = run(embeddings=path.parent, **settings)
    assert torch.equal(folder.state["encoder.pretrained"][34:], torch.from_numpy(vectors))
    assert embedded(folder, prepared).isfinite().all()
    wide = generator.normal(size=(44, 6)).astype(np.float32)
    write_aligned(path, wide, np.ones(44, bool), names.genes["mouse"].digest)
    with pytest.raises(InputError, match=r"different widths \(human 5, mouse 6\)"):
        run(embeddings=path.parent, **settings)


def test_fewer_val_cells_than_processes_are_refused(prepared, tmp_path):
    """One without a cell would compare another process's with itself."""
    config, many = Pretrain.model_validate(CONFIG), Process(0, 1000, torch.device("cpu"))
    paths = (tmp_path / "state", tmp_path / "model", tmp_path / "model.csv")
    with pytest.raises(InputError, match=r"which are compared, and there are 1000 processes"):
        pretrain(*prepared, config, "code", many, *paths)
    assert not paths[1].exists()


def gradients(process: Process, switch: int) -> dict[str, torch.Tensor]:
    """Of six cells, of which two processes have two and four."""
    config = Contrastive(loss_switch_step=switch, masking_rate=0.4, mlm_loss_weight=0.5)
    shares = [slice(0, 2), slice(2, 6)] if process.world > 1 else [slice(0, 6)]
    its = of_cells(batch_of_six(), shares[process.rank])
    model = shared(model_of(config), process)
    loss, count = contrastive(model, its, config, gathering(process), torch.Generator())
    loss.backward()
    loss_sum, total_count = total([loss.item(), count], process)
    return {"loss": torch.tensor(loss_sum / total_count)} | {
        name.removeprefix("module."): weight.grad * process.world / total_count
        for name, weight in model.named_parameters()
    }


def learned_in(process: Process, folder: Path) -> tuple[list, list]:
    """Gradients of both forms of the loss, and the rows of a whole run."""
    corpus, folder = folder / f"corpus{process.rank}", folder / f"of_{process.world}"
    training = CONFIG["training"] | {"batch_size": 12 // process.world, "log_every_n_steps": 1}
    config = Pretrain.model_validate(CONFIG | {"training": training})
    paths = (folder / "state", folder / "model", folder / "model.csv")
    progress = pretrain(*prepare_species(corpus), config, "code", process, *paths)
    return [gradients(process, switch) for switch in (0, 100)], progress.rows


TWO = """
import sys
sys.path[:0] = ["{project}", "{project}/workflow"]
from pathlib import Path
import torch
from tests.training.learners.test_contrastive import learned_in
from tests.training.ranks import run_in_ranks
from vcpipe.training.distributed import joined


def learn():
    with joined(0) as process:
        found = learned_in(process, Path("{folder}"))
        if process.first:
            torch.save(found, "{folder}/found.pt")


run_in_ranks(2, learn)
"""


def test_two_processes_learn_what_one_learns_that_has_all_cells(tmp_path):
    """The negatives of a cell are the cells of both; so is every gradient, and the whole run."""
    program = TWO.format(project=PROJECT, folder=tmp_path)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, two = learned_in(ALONE, tmp_path), torch.load(tmp_path / "found.pt")
    for expected, found in zip(one[0], two[0], strict=True):
        assert expected.keys() == found.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    rows = [np.array(its, dtype=float) for _, its in (one, two)]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-3)
