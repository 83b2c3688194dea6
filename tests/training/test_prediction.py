"""A model's predictions: all genes at once or in chunks, once or several times."""

import numpy as np
import pytest
import torch

from vcpipe.config.eval import Prediction
from vcpipe.config.model import Transformer
from vcpipe.data.perturbation_batches import KnownGenes
from vcpipe.models.scgpt import TransformerGenerator
from vcpipe.training.distributed import Process
from vcpipe.training.prediction import chunks_of_passes, predict_cells

ALONE = Process(0, 1, torch.device("cpu"))
SIZE = Transformer(hidden_dim=16, num_layers=1, num_heads=2, ffn_dim=16, dropout=0.0)
TARGETS, LENGTH = [3, 7], 8


@pytest.fixture
def known() -> KnownGenes:
    """Twenty of thirty genes, every one but each third."""
    columns = np.array([column for column in range(30) if column % 3 != 2])
    return KnownGenes(columns, np.arange(len(columns)), {})


@pytest.fixture
def model() -> TransformerGenerator:
    torch.manual_seed(0)
    return TransformerGenerator(SIZE, 21, 20).eval()


@pytest.fixture
def control_CG(generator) -> np.ndarray:
    return generator.gamma(1.0, 1.0, (5, 30)).astype(np.float32)


@pytest.fixture
def predict(known, model, control_CG):
    """Predicted cells, with chunks drawn by a seed."""

    def predict(seed: int = 0, **settings) -> np.ndarray:
        config = Prediction(**settings)
        generator = np.random.default_rng(seed)
        chunks = chunks_of_passes(known, TARGETS, LENGTH, config, generator)
        return predict_cells(model, known, TARGETS, chunks, 2, ALONE, control_CG)

    return predict


def answer(model, known, control_CG, places: list[int]) -> np.ndarray:
    """What the model says of some of the known genes, seen together."""
    values = torch.from_numpy(control_CG[:, known.columns[places]])
    flags = torch.tensor([[int(place in TARGETS) for place in places]]).expand(len(values), -1)
    with torch.inference_mode():
        return model(torch.tensor(places), values, flags).numpy()


def test_full_length_sees_all_known_genes_at_once(predict, model, known, control_CG):
    found_CG = predict(genes_per_pass="full")
    expected_CK = answer(model, known, control_CG, list(range(20))).clip(min=0)
    np.testing.assert_allclose(found_CG[:, known.columns], expected_CK, atol=1e-5)
    np.testing.assert_array_equal(found_CG[:, 2::3], control_CG[:, 2::3])


def test_a_gene_of_several_chunks_is_the_mean_of_what_is_said_of_it(
    predict, model, known, control_CG
):
    found_CG = predict(genes_per_pass="chunks", passes=2)
    chunks = chunks_of_passes(
        known, TARGETS, LENGTH, Prediction(passes=2), np.random.default_rng(0)
    )
    assert len(chunks) == 6
    said = {place: [] for place in range(20)}
    for chunk in chunks:
        for place, values_C in zip(
            chunk, answer(model, known, control_CG, chunk.tolist()).T, strict=True
        ):
            said[place].append(values_C)
    assert {len(its) for place, its in said.items() if place in TARGETS} == {6}
    assert {len(its) for place, its in said.items() if place not in TARGETS} == {2}
    for place, values in said.items():
        expected_C = np.mean(values, axis=0).clip(min=0)
        np.testing.assert_allclose(found_CG[:, known.columns[place]], expected_C, atol=1e-5)


def test_more_passes_depend_less_on_how_genes_are_dealt(predict):
    def spread(passes: int) -> float:
        return np.std([predict(seed, passes=passes) for seed in range(6)], axis=0).mean()

    assert spread(8) < 0.6 * spread(1)


def test_short_panels_are_predicted_once_however_many_passes(known, generator):
    for settings in ({"passes": 5}, {"genes_per_pass": "full"}):
        (chunk,) = chunks_of_passes(known, TARGETS, 20, Prediction(**settings), generator)
        assert chunk.tolist() == list(range(20))
