"""Embeddings of any run and any cells are made by naming them; by default nothing is embedded."""

from tests.workflow.conftest import ATLAS
from tests.workflow.tiny_atlas import write_atlas


def test_cells_of_a_dataset_are_embedded_by_naming_the_figures(fresh):
    jobs = fresh.planned(target="results/plot_embeddings/tiny_masked/tiny")
    assert jobs["embed_cells"] == jobs["plot_embeddings"] == jobs["pretrain"] == 1
    assert "embed_cells" not in fresh.planned()


def test_cells_of_an_atlas_are_embedded_by_naming_the_file(fresh):
    write_atlas(fresh.folder / "atlas")
    jobs = fresh.planned(target="results/embed_cells/cells_masked/cells.h5ad", config=ATLAS)
    assert jobs["embed_cells"] == jobs["pretrain"] == 1


def test_a_run_that_starts_from_another_waits_for_it(fresh):
    config = fresh.folder / "tests/workflow/config.yaml"
    text = config.read_text()
    first = text[text.index("  tiny_masked:\n") : text.index("finetune:")]
    start = "    pretrained: results/pretrain/tiny_masked/checkpoint/\n"
    second = first.rstrip().replace("tiny_masked:", "continued:") + "\n" + start + "\n"
    config.write_text(text.replace("finetune:", second + "finetune:", 1))
    jobs = fresh.planned(target="results/pretrain/continued/checkpoint")
    assert jobs["pretrain"] == 2


def test_every_model_of_the_demo_is_compared_on_cells_that_are_simulated_for_it(fresh):
    """The table of genes and chromosomes comes with the simulated cells, so nothing is missing."""
    jobs = fresh.planned(target="results/pretrain/comparison.csv", config="config/demo.yaml")
    assert jobs["compare_pretraining"] == 1
    assert jobs["pretrain"] == 6
    assert jobs["simulate_atlas"] == 2
    assert jobs["prepare_cells"] == 3
    assert not {"finetune_perturbation", "summarise"} & set(jobs)


def test_a_table_that_comes_with_no_atlas_of_the_corpus_must_be_there(fresh):
    fresh.edit("config/demo.yaml", "simulate_atlas/demo_human/gene", "simulate_atlas/other/gene")
    done = fresh.run(
        "-n", "results/pretrain/comparison.csv", config="config/demo.yaml", check=False
    )
    assert done.returncode != 0
    assert (
        "preprocess.demo_pairs.vocabulary.gene_chromosomes is 'results/simulate_atlas/other/gene"
        in done.stdout + done.stderr
    )
