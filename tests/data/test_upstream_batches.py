"""Our batches beside those of scGPT's loop (its perturbation tutorial), on the same pairs."""

import numpy as np
import pytest
import torch

from tests.scgpt_loop import gene_ids_of, upstream_epoch, upstream_loader
from vcpipe.config.finetune import Perturbation
from vcpipe.config.loading import Loading
from vcpipe.config.training import Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.perturbation_batches import PerturbationBatches, known_genes
from vcpipe.data.upstream_batches import UpstreamBatches
from vcpipe.data.vocabulary import PAD, build_vocabulary
from vcpipe.errors import InputError

NUM_EPOCHS, MAX_SEQ_LEN, BATCH_SIZE = 2, 12, 16
TRAINING = Training(batch_size=BATCH_SIZE, seed=42)
SETTINGS = Perturbation(
    max_seq_len=MAX_SEQ_LEN,
    always_sample_targets=False,
    gene_sampling="upstream",
    control_partners="paired_once",
    unknown_genes="pad",
)
NAMES = {
    "genes": "mapped_input_gene_ids",
    "control": "input_values",
    "flags": "input_pert_flags",
    "perturbed": "target_values",
}


@pytest.fixture
def vocabulary(screen):
    """GENE03 is a target that has no token."""
    return build_vocabulary(screen.genes[screen.genes != "GENE03"], [PAD, "<cls>", "<eoc>"])


@pytest.fixture
def paired(screen) -> np.ndarray:
    rows = np.arange(len(screen.cells))
    return np.where(screen.condition == "ctrl", rows, 5 + rows % 30)


@pytest.fixture
def batches(screen, vocabulary, paired):
    known = known_genes(screen, vocabulary, unknown=SETTINGS.unknown_genes)
    # Each cell keeps the control that it is paired with.
    nobody = np.arange(0)
    return PerturbationBatches(
        *(screen, known, np.arange(len(screen.cells)), paired, SETTINGS, nobody)
    )


def test_batches_are_those_of_scgpts_loop_in_cells_genes_and_order(
    batches, screen, paired, vocabulary
):
    ours = UpstreamBatches(batches, TRAINING)
    loader = Loader(ours, Loading(), Share(batch_size=BATCH_SIZE), TRAINING.seed, threads=2)
    found = [batch for epoch in range(NUM_EPOCHS) for batch in loader.steps(epoch)]

    torch.manual_seed(TRAINING.seed)
    theirs = upstream_loader(screen, paired, np.arange(len(screen.cells)), BATCH_SIZE)
    gene_ids = gene_ids_of(screen, vocabulary)
    expected = [
        batch for _ in range(NUM_EPOCHS) for batch in upstream_epoch(theirs, gene_ids, MAX_SEQ_LEN)
    ]

    assert len(found) == len(expected) == NUM_EPOCHS * (120 // BATCH_SIZE)
    for batch, their_batch in zip(found, expected, strict=True):
        for name, their_name in NAMES.items():
            values = np.broadcast_to(batch[name], their_batch[their_name].shape)
            np.testing.assert_array_equal(values, their_batch[their_name])
    # A target without a token is flagged as others are; most flags are not seen.
    pad = vocabulary.ids[PAD]
    flagged = sum((batch["flags"] * (batch["genes"] == pad)).sum() for batch in found)
    assert 0 < flagged < sum(batch["flags"].sum() for batch in found) < 14 * BATCH_SIZE / 2


def test_a_run_that_goes_on_has_the_same_batches(batches):
    share = Share(batch_size=BATCH_SIZE)
    whole = Loader(UpstreamBatches(batches, TRAINING), Loading(), share, TRAINING.seed)
    expected = [*whole.steps(0), *whole.steps(1)][10:]
    again = Loader(UpstreamBatches(batches, TRAINING), Loading(), share, TRAINING.seed)
    found = list(again.steps(1, first_step=3))
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


def test_several_processes_are_refused(batches):
    with pytest.raises(InputError, match=r"gene_sampling is upstream.* there are 2; expected one"):
        UpstreamBatches(batches, TRAINING, world=2)
