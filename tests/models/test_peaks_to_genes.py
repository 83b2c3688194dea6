import pytest
import torch
from torch import nn

from vcpipe.config.model import Transformer
from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes
from vcpipe.models.peaks_to_genes import (
    DECODERS,
    BatchNorm,
    PeaksToGenesModel,
    Vocabulary,
)

SIZE = Transformer(hidden_dim=16, num_layers=2, num_heads=4, ffn_dim=16, dropout=0.0)
NAMES = Vocabulary(
    num_peaks=30,
    pad_id=1,
    num_genes=25,
    num_chromosomes=6,
    num_batches=3,
    num_cell_types=4,
    genes_G=torch.arange(3, 23),
    chromosomes_G=torch.arange(20) % 5,
)
NUM_GENES = 20
LENGTHS = torch.tensor([12, 9, 7])


def model_of(seed: int = 0, n_bins: int = 5, **settings) -> PeaksToGenesModel:
    torch.manual_seed(seed)
    return PeaksToGenesModel(SIZE, PeaksToGenes(**settings), NAMES, n_bins, seed)


def where(real_BT: torch.Tensor) -> dict[str, torch.Tensor]:
    lengths = real_BT.sum(1)
    starts = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    return {"real": real_BT, "places": real_BT.flatten().nonzero()[:, 0], "starts": starts}


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """3 cells of 12, 9 and 7 tokens, which are asked for 20, 4 and 9 genes."""
    generator = torch.Generator().manual_seed(2)
    real = torch.arange(12) < LENGTHS[:, None]
    peaks = torch.stack([2 + torch.randperm(28, generator=generator)[:12] for _ in range(3)])
    peaks[:, 0] = 0
    asked = [20, 4, 9]
    gene = torch.cat([torch.randperm(NUM_GENES, generator=generator)[:n] for n in asked])
    return {
        "peaks": peaks.where(real, 1),
        "peak_chromosomes": (peaks % 6).where(real, 1),
        **where(real),
        "cell": torch.arange(3).repeat_interleave(torch.tensor(asked)),
        "gene": gene,
        "batch": torch.tensor([0, 2, -1]),
    }


def answer(model, batch):
    names = ("peaks", "peak_chromosomes", "places", "starts", "cell", "gene", "batch")
    return model(*(batch[name] for name in names))


def longer(batch: dict, extra: int = 5) -> dict:
    """The same cells with more padding, of other numbers."""
    more = {
        "peaks": torch.full((3, extra), 17),
        "peak_chromosomes": torch.full((3, extra), 4),
        "real": torch.zeros(3, extra, dtype=torch.bool),
    }
    made = {name: torch.cat([batch[name], its], dim=1) for name, its in more.items()}
    return batch | made | where(made["real"])


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("encoder", ["transformer", "performer"])
@pytest.mark.parametrize("input_norm", ["layer", "batch"])
@pytest.mark.parametrize("cell_emb_style", ["cls", "mean"])
def test_padding_changes_nothing(batch, encoder, input_norm, cell_emb_style, is_training):
    settings = {"encoder": encoder, "input_norm": input_norm, "cell_emb_style": cell_emb_style}
    short, long = (model_of(**settings).train(is_training) for _ in range(2))
    torch.testing.assert_close(long.embed(longer(batch)), short.embed(batch))
    torch.testing.assert_close(answer(long, longer(batch))[0], answer(short, batch)[0])
    for name, buffer in short.named_buffers():
        torch.testing.assert_close(dict(long.named_buffers())[name], buffer)


@pytest.mark.parametrize("encoder", ["transformer", "performer"])
def test_a_cell_does_not_depend_on_the_cells_beside_it(batch, encoder):
    model = model_of(encoder=encoder, use_batch_labels=True).eval()
    together, _ = answer(model, batch)
    for cell in range(3):
        its = batch["cell"] == cell
        alone = {name: batch[name][cell : cell + 1, : LENGTHS[cell]] for name in
                 ("peaks", "peak_chromosomes", "real")}  # fmt: skip
        alone |= where(alone["real"])
        alone |= {"cell": torch.zeros(int(its.sum()), dtype=torch.int64)}
        alone |= {"gene": batch["gene"][its], "batch": batch["batch"][cell : cell + 1]}
        torch.testing.assert_close(answer(model, alone)[0], together[its])


def test_the_order_of_peaks_means_nothing_and_their_chromosomes_do(batch):
    model = model_of().eval()
    order = torch.tensor([0, 6, 5, 4, 3, 2, 1, 7, 8, 9, 10, 11])
    moved = batch | {name: batch[name][:, order] for name in ("peaks", "peak_chromosomes")}
    torch.testing.assert_close(model.embed(moved), model.embed(batch))
    elsewhere = batch | {"peak_chromosomes": (batch["peak_chromosomes"] + 1) % 6}
    assert not torch.allclose(model.embed(elsewhere), model.embed(batch), atol=1e-3)
    blind = model_of(use_chr_labels=False).eval()
    torch.testing.assert_close(blind.embed(elsewhere), blind.embed(batch))


def test_a_cells_vector_is_the_output_at_cls_or_the_mean_over_real_tokens(batch):
    outputs = []
    cls, mean = (model_of(cell_emb_style=style).eval() for style in ("cls", "mean"))
    mean.norm.register_forward_hook(lambda _, __, output: outputs.append(output))
    made = mean.embed(batch)
    parts = outputs[0].split(LENGTHS.tolist())
    torch.testing.assert_close(cls.embed(batch), torch.stack([part[0] for part in parts]))
    torch.testing.assert_close(made, torch.stack([part.mean(0) for part in parts]))


def test_what_is_asked_and_the_batch_play_no_part_in_a_cells_vector(batch):
    model = model_of(use_batch_labels=True).eval()
    made = model.embed(batch)
    other = batch | {"gene": batch["gene"].flip(0), "batch": torch.tensor([1, 1, 1])}
    assert torch.equal(model.embed(other), made)
    assert not torch.allclose(answer(model, other)[0], answer(model, batch)[0], atol=1e-3)


def test_batches_are_told_apart_also_from_a_missing_one(batch):
    model = model_of(use_batch_labels=True).eval()
    first = [
        answer(model, batch | {"batch": torch.full((3,), label)})[0] for label in (0, 1, 2, -1)
    ]
    for one in range(4):
        for other in range(one):
            assert not torch.allclose(first[one], first[other], atol=1e-4)


def plain(decoder: nn.Module, style: str, z_Z, query_D, gene: int) -> torch.Tensor:
    """One value as EpiFoundation computes it: of one cell and one gene, in float64."""
    query = decoder.gene2query(query_D).sigmoid()
    if style == "concat query":
        weight = torch.cat([decoder.of_cell.weight, decoder.of_query.weight], dim=1)
        hidden = weight @ torch.cat([z_Z, query]) + decoder.of_cell.bias
        return decoder.fc2(decoder.activation(hidden))
    if style == "sum query":
        return decoder.fc2(decoder.activation(decoder.fc1(z_Z + query)))
    if style == "inner product":
        numbers = [z_Z @ (weight @ query) for weight in decoder.weight]
        return torch.stack(numbers) + decoder.bias
    weight = torch.cat([decoder.of_cell[gene], decoder.of_query[gene]], dim=1)
    hidden = weight @ torch.cat([z_Z, query]) + decoder.bias1[gene]
    return decoder.fc2[gene] @ decoder.activation(hidden) + decoder.bias2[gene]


@pytest.mark.parametrize("style", DECODERS)
def test_a_decoder_equals_its_plain_form(batch, style):
    torch.manual_seed(4)
    decoder = DECODERS[style](16, 24, NUM_GENES, 3).double()
    for weight in decoder.parameters():
        nn.init.normal_(weight, std=0.3)
    z_BZ = torch.randn(3, 24, dtype=torch.float64)
    genes_GD = torch.randn(NUM_GENES, 16, dtype=torch.float64)
    made = decoder(z_BZ, genes_GD, batch["cell"], batch["gene"])
    expected = [
        plain(decoder, style, z_BZ[cell], genes_GD[gene], gene)
        for cell, gene in zip(batch["cell"].tolist(), batch["gene"].tolist(), strict=True)
    ]
    torch.testing.assert_close(made, torch.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("style", DECODERS)
@pytest.mark.parametrize(
    ("head", "num_outputs"), [("categorical", 5), ("zero_inflated", 2), ("regression", 1)]
)
def test_every_style_works_with_every_head_and_uses_all_weights(batch, style, head, num_outputs):
    model = model_of(
        mvc_arch_style=style,
        value_head=head,
        use_batch_labels=True,
        task_weight={"cell_type": 1.0},
    )
    values, types = answer(model, batch)
    assert values.shape == (33, num_outputs)
    assert types.shape == (3, 4)
    (values.sum() + types.sum()).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


def test_without_a_weight_there_is_no_classifier(batch):
    model = model_of()
    assert answer(model, batch)[1] is None
    assert not [name for name in model.state_dict() if name.startswith(("cls_", "batch_"))]


def test_batch_norm_is_torchs():
    torch.manual_seed(0)
    ours, torchs = BatchNorm(6), nn.BatchNorm1d(6)
    num = 28
    for _ in range(3):
        x = 3 * torch.randn(num, 6) + 5
        torch.testing.assert_close(ours(x), torchs(x))
    # torch keeps the unbiased variance.
    expected = (torchs.running_var - 0.9**3) * (num - 1) / num + 0.9**3
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, expected)
    trained = (x - ours.running_mean) / (ours.running_var + 1e-5).sqrt()
    torch.testing.assert_close(ours.eval()(x), trained)
