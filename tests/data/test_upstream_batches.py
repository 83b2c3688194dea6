"""Our batches beside those of scGPT's loop (its perturbation tutorial), on the same pairs."""

# B cells, G genes, T sampled genes

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vcpipe.config.finetune import Perturbation
from vcpipe.config.loading import Loading
from vcpipe.config.training import Training
from vcpipe.data.loading.loader import Loader
from vcpipe.data.loading.plans import Share
from vcpipe.data.perturbation_batches import PerturbationBatches, known_genes
from vcpipe.data.upstream_batches import UpstreamBatches
from vcpipe.data.vocabulary import PAD, build_vocabulary
from vcpipe.errors import InputError

NUM_EPOCHS, MAX_SEQ_LEN = 2, 12
TRAINING = Training(batch_size=16, seed=42)
SETTINGS = Perturbation(
    max_seq_len=MAX_SEQ_LEN,
    always_sample_targets=False,
    gene_sampling="upstream",
    unknown_genes="pad",
)


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
    return PerturbationBatches(screen, known, np.arange(len(screen.cells)), paired, SETTINGS)


def graphs(screen, paired) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """x and y of each cell as cell-gears 0.0.2 has them: x holds expression and flags."""
    values = torch.from_numpy(screen.values(slice(None)).toarray())
    found = []
    for row, condition in enumerate(screen.condition):
        flags = torch.from_numpy(np.isin(screen.genes, condition.split("+")))
        x = torch.stack([values[paired[row]], flags.float()], dim=1)
        found.append((x, values[row : row + 1]))
    return found


def joined(cells: list[tuple]) -> tuple[torch.Tensor, ...]:
    """As torch_geometric's loader has it: the genes of one cell behind those of another."""
    return tuple(torch.cat(parts) for parts in zip(*cells, strict=True))


def upstream_batches(screen, paired, vocabulary) -> list[dict]:
    """scGPT's loop, as far as the model: its names, its lines."""
    n_genes = len(screen.genes)
    pad = vocabulary.ids[PAD]
    gene_ids = np.array([vocabulary.ids.get(gene, pad) for gene in screen.genes])
    found = []
    torch.manual_seed(TRAINING.seed)
    train_loader = DataLoader(
        graphs(screen, paired),
        batch_size=TRAINING.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=joined,
    )
    for _ in range(NUM_EPOCHS):
        for x, y in train_loader:
            batch_size = len(y)
            ori_gene_values = x[:, 0].view(batch_size, n_genes)
            pert_flags = x[:, 1].long().view(batch_size, n_genes)
            input_gene_ids = torch.arange(n_genes)
            if len(input_gene_ids) > MAX_SEQ_LEN:
                input_gene_ids = torch.randperm(len(input_gene_ids))[:MAX_SEQ_LEN]
            found.append(
                {
                    "genes": gene_ids[input_gene_ids.numpy()],
                    "control": ori_gene_values[:, input_gene_ids].numpy(),
                    "perturbed": y[:, input_gene_ids].numpy(),
                    "flags": pert_flags[:, input_gene_ids].numpy(),
                }
            )
    return found


def test_batches_are_those_of_scgpts_loop_in_cells_genes_and_order(
    batches, screen, paired, vocabulary
):
    ours = UpstreamBatches(batches, TRAINING)
    loader = Loader(ours, Loading(), Share(batch_size=16), TRAINING.seed, threads=2)
    found = [batch for epoch in range(NUM_EPOCHS) for batch in loader.steps(epoch)]
    theirs = upstream_batches(screen, paired, vocabulary)
    assert len(found) == len(theirs) == NUM_EPOCHS * (120 // 16)
    for one, other in zip(found, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])
    # A target without a token is flagged as others are, and some flags are not seen.
    flagged = sum((batch["flags"] * (batch["genes"] == vocabulary.ids[PAD])).sum() for batch in found)
    assert 0 < flagged < sum(batch["flags"].sum() for batch in found) < 14 * 16


def test_a_run_that_goes_on_has_the_same_batches(batches):
    whole = Loader(UpstreamBatches(batches, TRAINING), Loading(), Share(batch_size=16), 42)
    expected = list(whole.steps(1))[3:]
    again = Loader(UpstreamBatches(batches, TRAINING), Loading(), Share(batch_size=16), 42)
    found = list(again.steps(1, first_step=3))
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


def test_several_processes_are_refused(batches):
    with pytest.raises(InputError, match=r"gene_sampling is upstream.* there are 2; expected one"):
        UpstreamBatches(batches, TRAINING, world=2)
