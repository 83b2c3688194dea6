import numpy as np
import pytest

from tests.two_species import prepare_species
from vcpipe.config.pretrain import Pretrain
from vcpipe.data.loading.store_reader import StoreReader
from vcpipe.data.order import BatchDraw
from vcpipe.data.view_batches import ViewBatches, WholeCellBatches
from vcpipe.training.learners.contrastive import viewed_cells
from vcpipe.training.learners.learner import PreparedCells

HIDING = {"masking_rate": 0.3, "mlm_loss_weight": 1.0, "input_encoding": "value_encoding"}
PANELS = {"panel_size_min": 8, "panel_size_max": 15}
VIEWS = ("first", "second")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_species(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def make(prepared):
    def batches(kind=ViewBatches, panels=None, loading=None, **settings):
        contrastive = settings | {"panels": PANELS | (panels or {})}
        config = Pretrain(
            corpus="c", objective="contrastive", contrastive=contrastive, loading=loading or {}
        )
        viewed = viewed_cells(PreparedCells(*prepared), config.contrastive)
        return kind(viewed, config, StoreReader(prepared.store))

    return batches


def made(batches, cells, draw=None) -> dict:
    cells = np.asarray(cells)
    return batches.batch(batches.reader.read(cells), np.arange(len(cells)), draw or BatchDraw(0, 0))


def cells_in(batch: dict, view: str) -> list[list[int]]:
    """The genes of each cell."""
    parts = zip(batch[f"{view}_genes"], batch[f"{view}_real"], strict=True)
    return [genes[real].tolist()[1:] for genes, real in parts]


def test_views_begin_with_cls_and_end_in_padding(make):
    batches = make()
    batch = made(batches, np.arange(12))
    for view in VIEWS:
        genes, real = batch[f"{view}_genes"], batch[f"{view}_real"]
        assert (genes[:, 0] == batches.viewed.special.cls_id).all()
        assert (genes[~real] == batches.viewed.special.pad_id).all()
    assert "first_values" not in batch
    assert "first_hidden" not in batch


def test_every_cell_has_genes_of_its_own_species_which_is_numbered(make, prepared):
    batch = made(make(), np.arange(40))
    datasets = prepared.store.labels(np.arange(40), ["dataset"])["dataset"].to_pylist()
    assert batch["species"].tolist() == [["human_atlas", "mouse_atlas"].index(d) for d in datasets]
    assert len(set(datasets)) == 2
    for view in VIEWS:
        for cell, genes in enumerate(cells_in(batch, view)):
            row = prepared.store.rows([cell])
            assert set(genes) <= set(row.ids.tolist())


def test_the_cells_of_a_dataset_share_a_pair_of_panels_in_a_step(make):
    batch = made(make(), np.arange(60), BatchDraw(0, 0, step=3))
    for species in (0, 1):
        on = [set(), set()]
        for number, view in enumerate(VIEWS):
            for cell, genes in enumerate(cells_in(batch, view)):
                on[number] |= set(genes) if batch["species"][cell] == species else set()
        assert all(on)
        assert not on[0] & on[1]


def test_panels_are_named_by_the_step_and_the_same_for_every_process(make):
    batches = make()
    here, there = (
        made(batches, np.arange(30), BatchDraw(0, 0, step=3, rank=rank)) for rank in (0, 1)
    )
    assert all(np.array_equal(here[name], there[name]) for name in here)
    later = made(batches, np.arange(30), BatchDraw(0, 0, step=4))
    assert cells_in(later, "first") != cells_in(here, "first")


def test_a_cells_views_do_not_depend_on_the_cells_beside(make):
    batches = make(**HIDING)
    together = made(batches, np.arange(10))
    for cell in range(10):
        alone = made(batches, [cell])
        for name in ("genes", "values", "hidden"):
            for view in VIEWS:
                its = alone[f"{view}_{name}"][0]
                assert np.array_equal(its, together[f"{view}_{name}"][cell][: len(its)])


def test_hidden_values_are_targets_and_nowhere_else(make):
    shown = made(make(input_encoding="value_encoding"), np.arange(20))
    batch = made(make(**HIDING), np.arange(20))
    for view in VIEWS:
        hidden, values = batch[f"{view}_hidden"], batch[f"{view}_values"]
        assert (values[hidden] == -1).all()
        assert np.array_equal(batch[f"{view}_targets"], shown[f"{view}_values"][hidden])
        assert not hidden[:, 0].any()
        assert not hidden[~batch[f"{view}_real"]].any()
        num_genes = batch[f"{view}_real"].sum(1) - 1
        assert (hidden.sum(1) == np.maximum(np.rint(0.3 * num_genes), num_genes > 0)).all()


def test_views_of_a_cell_hide_genes_independently(make):
    both = {"panel_size_min": 30, "panel_size_max": 30, "panel_overlap": 1.0}
    batches = make(panels=both, **HIDING)
    batch = made(batches, np.arange(60))
    human = batch["species"] == 0  # has 30 genes: both views hold all of a cell's
    hidden = {
        view: [
            set(genes[its])
            for genes, its in zip(
                batch[f"{view}_genes"][human], batch[f"{view}_hidden"][human], strict=True
            )
        ]
        for view in VIEWS
    }
    same = [one == other for one, other in zip(hidden["first"], hidden["second"], strict=True)]
    assert np.mean(same) < 0.2


def test_a_cell_without_a_gene_on_a_panel_is_not_usable(make):
    few = {"panel_size_min": 1, "panel_size_max": 2}
    batch = made(make(panels=few, **HIDING), np.arange(60))
    genes = zip(*(cells_in(batch, view) for view in VIEWS), strict=True)
    empty = [not all(views) for views in genes]
    assert 0 < sum(empty) < 60
    assert batch["usable"].tolist() == [not its for its in empty]


def test_a_cell_that_is_drawn_again_is_another_example(make):
    weighted = {"strategy": "true_weighted", "weight_by": ["batch"]}
    batches = make(loading=weighted, **HIDING)
    batch = made(batches, [4, 4])
    assert not np.array_equal(batch["first_hidden"][0], batch["first_hidden"][1])
    batch = made(make(**HIDING), [4, 4])
    assert np.array_equal(batch["first_hidden"][0], batch["first_hidden"][1])


def test_a_whole_cell_is_one_view_of_all_of_its_genes(make, prepared):
    batches = make(WholeCellBatches, panels={"feature_max_drop_rate": 0.5})
    batch = made(batches, np.arange(20))
    rows = prepared.store.rows(np.arange(20))
    for cell in range(20):
        its = slice(rows.starts[cell], rows.starts[cell + 1])
        real = batch["real"][cell]
        assert set(batch["genes"][cell][real].tolist()[1:]) == set(rows.ids[its].tolist())
        values = batch["values"][cell][real][1:]
        assert (np.diff(values) <= 0).all()
    assert set(batch["species"].tolist()) == {0, 1}


def test_no_view_has_more_than_max_tokens(make):
    batch = made(make(WholeCellBatches, panels={"max_tokens": 9}), np.arange(20))
    assert batch["genes"].shape == (20, 9)
