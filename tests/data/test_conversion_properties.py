"""What must hold of every screen, tried on random small ones."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpipe.config.gears import Conversion
from vcpipe.data.gears import convert
from vcpipe.data.pairing import pair_controls
from vcpipe.data.screen import CONTROL, Screen, open_screen
from vcpipe.data.splits import draw_controls

GENES = [f"G{i}" for i in range(12)]
LAYOUTS = ("csr", "unsorted csr", "csr with zeros", "csc", "dense")
# The same examples on every run, and no verdict on the speed of the machine.
few = settings(max_examples=30, deadline=None, derandomize=True)


@dataclass(frozen=True)
class Raw:
    """A screen, and what its labels are as conditions."""

    cells: ad.AnnData
    condition: np.ndarray
    settings: Conversion


@st.composite
def screens(draw) -> Raw:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_genes = draw(st.integers(6, len(GENES)))
    genes = np.array(GENES)[:num_genes]
    targets = draw(st.integers(1, 3))
    with_combination = draw(st.booleans())
    separator = draw(st.sampled_from("+_|"))
    kinds = draw(st.integers(1, 2))
    labels, conditions, cell_types = [], [], []
    for kind in range(kinds):
        first, second, *others = generator.permutation(genes)[: targets + 2]
        made = ["non-targeting"] * generator.integers(2, 6)
        true = [CONTROL] * len(made)
        for target in others:
            ways = (target, f"{target}{separator}ctrl", f"non-targeting{separator}{target}")
            size = generator.integers(2, 5)
            made += list(generator.choice(ways, size))
            true += [f"{target}+ctrl"] * size
        if with_combination:
            made += [f"{first}{separator}{second}", f"{second}{separator}{first}"]
            true += ["+".join(sorted((first, second)))] * 2
        labels += made
        conditions += true
        cell_types += [f"kind{kind}"] * len(made)
    order = generator.permutation(len(labels))
    obs = pd.DataFrame(
        {
            "gene": pd.Categorical(np.array(labels)[order]),
            "kind": np.array(cell_types)[order],
            "batch": generator.choice(["b0", "b1", "b2"], len(labels)),
        },
        index=[f"cell{i}" for i in range(len(labels))],
    )
    dtype = draw(st.sampled_from((np.float32, np.float64, np.int32, np.int64, np.uint16)))
    counts = counts_of(generator, len(labels), num_genes, draw(st.sampled_from((1, 40, 60000))))
    matrix = laid_out(counts.astype(dtype), draw(st.sampled_from(LAYOUTS)), generator)
    dataset = {"cell_type_key": "kind", "combination_separator": separator}
    normalisation = {"target_sum": draw(st.sampled_from((1.0, 1e4, 1e6)))}
    return Raw(
        cells=ad.AnnData(matrix, obs, pd.DataFrame(index=genes)),
        condition=np.array(conditions)[order],
        settings=Conversion.model_validate({"dataset": dataset, "normalisation": normalisation}),
    )


def counts_of(
    generator: np.random.Generator, num_cells: int, num_genes: int, largest: int
) -> np.ndarray:
    """Counts with many zeros, and at least one in every cell."""
    counts = generator.integers(0, largest, (num_cells, num_genes), endpoint=True)
    counts[generator.random(counts.shape) < generator.random()] = 0
    counts[np.arange(num_cells), generator.integers(num_genes, size=num_cells)] += 1
    return counts


def laid_out(counts: np.ndarray, layout: str, generator: np.random.Generator):
    if layout == "dense":
        return counts
    if layout == "csc":
        return sp.csc_matrix(counts)
    if layout == "csr":
        return sp.csr_matrix(counts)
    # Every place is stored, zeros too; their columns in order or not.
    num_cells, num_genes = counts.shape
    columns = np.tile(np.arange(num_genes), (num_cells, 1))
    if layout == "unsorted csr":
        columns = generator.permuted(columns, axis=1)
    values = np.take_along_axis(counts, columns, axis=1)
    starts = np.arange(0, num_cells * num_genes + 1, num_genes)
    return sp.csr_matrix((values.ravel(), columns.ravel(), starts), counts.shape)


def dense(cells: ad.AnnData) -> np.ndarray:
    matrix = cells.X.toarray() if sp.issparse(cells.X) else cells.X
    return np.asarray(matrix, dtype=np.float64)


def converted(raw: Raw, folder: str, cells: ad.AnnData | None = None, chunk: int | None = None):
    path = Path(folder)
    (raw.cells if cells is None else cells).write_h5ad(path / "raw.h5ad")
    convert(path / "raw.h5ad", "tiny", raw.settings, path / "out.h5ad", chunk)
    return path / "out.h5ad"


@few
@given(raw=screens(), chunk=st.integers(1, 40))
def test_what_is_read_back_is_what_was_converted(raw, chunk):
    counts = dense(raw.cells)
    target_sum = raw.settings.normalisation.target_sum
    values = np.log1p(counts * (target_sum / counts.sum(axis=1, keepdims=True)))
    with tempfile.TemporaryDirectory() as folder:
        out = converted(raw, folder, chunk=chunk)
        made, screen = ad.read_h5ad(out), open_screen(out)
        rows = np.arange(len(screen.cells))
        np.testing.assert_array_equal(made.layers["counts"].toarray(), counts)
        np.testing.assert_array_equal(screen.counts(rows).toarray(), counts)
        np.testing.assert_array_equal(screen.values(rows).toarray(), made.X.toarray())
    np.testing.assert_allclose(made.X.toarray(), values, rtol=2 * np.finfo(np.float32).eps)
    assert made.X.has_canonical_format
    assert made.X.nnz == np.count_nonzero(counts)
    for given_names, names in (
        (raw.cells.obs_names, (made.obs_names, screen.cells)),
        (raw.cells.var_names, (made.var_names, made.var["gene_name"], screen.genes)),
        (raw.condition, (made.obs["condition"], screen.condition)),
        (raw.cells.obs["kind"], (made.obs["cell_type"], screen.cell_type)),
        (raw.cells.obs["batch"], (made.obs["batch"], screen.batch)),
        (raw.cells.obs["gene"], (made.obs["gene"],)),
    ):
        for read in names:
            assert list(read) == list(given_names)
    assert screen.about["detected"] == {
        "perturbation_key": "gene",
        "control_label": "non-targeting",
    }


@few
@given(raw=screens(), chunks=st.lists(st.integers(1, 40), min_size=2, max_size=2, unique=True))
def test_the_file_is_the_same_for_every_chunk_size(raw, chunks):
    with tempfile.TemporaryDirectory() as folder:
        first, second = (converted(raw, folder, chunk=chunk).read_bytes() for chunk in chunks)
    assert first == second


@few
@given(raw=screens(), seed=st.integers(0, 2**32 - 1))
def test_cells_in_another_order_give_the_same_cells_in_that_order(raw, seed):
    order = np.random.default_rng(seed).permutation(raw.cells.n_obs)
    with tempfile.TemporaryDirectory() as folder:
        plain = ad.read_h5ad(converted(raw, folder))
        moved = ad.read_h5ad(converted(raw, folder, raw.cells[order].copy()))
    np.testing.assert_array_equal(moved.X.toarray(), plain.X.toarray()[order])
    pd.testing.assert_frame_equal(moved.obs, plain.obs.iloc[order])
    pd.testing.assert_frame_equal(moved.var, plain.var)
    for key in ("non_zeros_gene_idx", "non_dropout_gene_idx"):
        assert set(moved.uns[key]) == set(plain.uns[key])
        for name, genes in plain.uns[key].items():
            np.testing.assert_array_equal(moved.uns[key][name], genes)


@few
@given(
    raw=screens(),
    seed=st.integers(0, 2**32 - 1),
    within=st.sampled_from(("screen", "cell_type", "batch")),
)
def test_beside_every_perturbed_cell_stands_a_control_of_the_models_half(raw, seed, within):
    kind = raw.cells.obs["kind"].to_numpy(dtype=str)  # each has two controls at least
    screen = Screen(
        path=Path("tiny.h5ad"),
        genes=raw.cells.var_names.to_numpy(dtype=str),
        cells=raw.cells.obs_names.to_numpy(dtype=str),
        condition=raw.condition,
        batch=kind,
        cell_type=kind,
        about={},
    )
    controls = draw_controls(screen, seed)
    paired = pair_controls(screen, controls, within, np.random.default_rng(seed))
    perturbed = screen.condition != CONTROL
    partners = paired[perturbed]
    assert {controls[cell] for cell in screen.cells[partners]} == {"model"}
    if within != "screen":
        np.testing.assert_array_equal(kind[partners], kind[perturbed])
