"""Screens whose genes we and others rank, and when two rankings differ in nothing but ties."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.stats

from tests.benchmarks import screens
from vcpipe.config.datasets import Dataset
from vcpipe.config.gears import Conversion
from vcpipe.config.reading import PROJECT, read_yaml
from vcpipe.data import simulation
from vcpipe.data.gears import convert

JURKAT = PROJECT.parent / "shared/data/datlinger_jurkat_cropseq_counts.h5ad"
SCREENS = ("demo", "jurkat", "random")
COLUMNS = {"jurkat": {"unknown_targets": "keep", "cell_type_key": "celltype"}}
TOP_LISTS = {
    "top_non_zero_de_20": "non_zeros_gene_idx",
    "top_non_dropout_de_20": "non_dropout_gene_idx",
}


def available_screens() -> list[str]:
    return [name for name in SCREENS if name != "jurkat" or JURKAT.exists()]


def converted_screen(name: str, folder: Path) -> Path:
    """One of SCREENS as convert_to_gears leaves it: <name>/perturb_processed.h5ad."""
    counts, converted = folder / f"{name}.h5ad", folder / name / "perturb_processed.h5ad"
    if name == "demo":
        demo = Dataset.model_validate(read_yaml(PROJECT / "config/demo.yaml")["datasets"]["demo"])
        simulation.write_screen(counts, simulation.plan_screen(demo.simulate))
    if name == "jurkat":
        counts = JURKAT
    if name == "random":
        screens.write_screen(counts, num_cells=4000, num_genes=2000, num_targets=20)
    config = Conversion.model_validate({"dataset": COLUMNS.get(name, {})})
    convert(counts, name, config, converted)
    return converted


@dataclass(frozen=True)
class Scores:
    """|t| of every gene, from scipy in float64, and how far from it a program's |t| may be."""

    t: pd.Series
    rounding: pd.Series


def welch_scores(converted: ad.AnnData, name: str, dtype: type) -> Scores:
    """Of the group called `name` against the control of its cell type.

    The programs take the variance as the mean of squares less the square of the mean. `dtype` is
    that of a square: scanpy squares float32 in float32 and adds in float64.
    """
    group, control = (
        converted.X[(converted.obs["condition_name"] == one).to_numpy()].toarray().astype(float)
        for one in (name, control_of(name))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        t_G = np.abs(scipy.stats.ttest_ind(group, control, equal_var=False).statistic)
        means_G = np.mean(group, axis=0) + np.mean(control, axis=0)
        squares_G = sum(np.mean(x**2, axis=0) / (len(x) - 1) for x in (group, control))
        error_G = sum(np.var(x, axis=0, ddof=1) / len(x) for x in (group, control))
        # Squares are off by half a unit in their last place, a sum by one for each of its terms.
        squaring = np.finfo(dtype).eps / 2
        adding = max(len(group), len(control)) * np.finfo(np.float64).eps
        rounding_G = t_G * (squaring + adding) * squares_G / error_G
        rounding_G += adding * means_G / np.sqrt(error_G)
    # Without any variance t is 0 or infinite, and neither is rounded.
    kept = {"nan": 0.0, "posinf": np.inf}
    return Scores(
        pd.Series(np.nan_to_num(t_G, **kept), index=converted.var_names),
        pd.Series(np.nan_to_num(rounding_G, nan=0.0, posinf=0.0), index=converted.var_names),
    )


def control_of(name: str) -> str:
    return f"{name.split('_')[0]}_ctrl_1"


def assert_falling(genes: Iterable[str], scores: Scores) -> None:
    """No gene stands behind one whose score it surely exceeds.

    Two rankings that both hold this differ only among genes that rounding cannot tell apart.
    """
    genes = list(genes)
    least = (scores.t - scores.rounding)[genes].to_numpy()
    most = (scores.t + scores.rounding)[genes].to_numpy()
    before = np.minimum.accumulate(most)
    wrong = np.flatnonzero(least > before)
    assert not len(wrong), f"{len(wrong)} genes stand too far behind, first {genes[wrong[0]]}"


def top_of(genes: Iterable[str], kept: Iterable[int], columns: pd.Index) -> list[str]:
    """The first twenty of a ranking that are among some columns."""
    kept = set(columns[kept])
    return [gene for gene in genes if gene in kept][:20]


class Differences:
    """How many places of how many rankings hold another gene, and how far the scores are apart."""

    def __init__(self):
        self.num_rankings = self.num_equal = self.num_places = self.num_differing = 0
        self.largest = 0.0

    def add(self, ours: list[str], theirs: list[str], t: pd.Series) -> None:
        pairs = [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
        self.num_rankings += 1
        self.num_equal += not pairs
        self.num_places += len(ours)
        self.num_differing += len(pairs)
        for mine, their in pairs:
            # Two infinite scores are equal, but their difference is no number.
            apart = 0.0 if t[mine] == t[their] else abs(t[mine] - t[their])
            self.largest = max(self.largest, apart)

    def __str__(self):
        return (
            f"{self.num_equal} of {self.num_rankings} equal; {self.num_differing} of "
            f"{self.num_places} places differ, where scores differ by {self.largest:.1e} at most"
        )


def differences(converted: ad.AnnData, key: str, theirs: dict[str, list[str]]) -> Differences:
    """Of our lists under a key from somebody else's, by group."""
    ours = converted.uns[key]
    assert set(ours) == set(theirs)
    found = Differences()
    for name, genes in theirs.items():
        found.add(list(ours[name]), list(genes), welch_scores(converted, name, np.float64).t)
    print(f"{key}: {found}")
    return found


def assert_ties_alone_differ(
    converted: ad.AnnData, theirs: dict[str, list[str]], dtype: type
) -> None:
    """In our rankings of all genes and somebody else's, made from squares of a dtype."""
    key = "rank_genes_groups_cov_all"
    differences(converted, key, theirs)
    for name, genes in theirs.items():
        ours = converted.uns[key][name]
        assert sorted(ours) == sorted(genes)
        assert_falling(ours, welch_scores(converted, name, np.float64))
        assert_falling(genes, welch_scores(converted, name, dtype))
