"""checks: when check_dataset flags a perturbation, a batch or a cell."""

from pydantic import Field

from vcpipe.config.datasets import Effect
from vcpipe.config.section import Section


class Checks(Section):
    """Thresholds of the flags; a flag marks, it removes nothing."""

    min_cells: int = Field(30, ge=1, description="few_cells: perturbations with fewer cells")
    min_relative_depth: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="low_depth: a median UMI count below this share of the cell type's",
    )
    min_knockdown: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="weak_knockdown: targets that lose a smaller share (effect down)",
    )
    min_activation: float = Field(
        0.5, gt=0, description="weak_activation: targets that gain a smaller share (effect up)"
    )
    min_expected_counts: float = Field(
        10,
        gt=0,
        description="target_too_low: targets of which the perturbed cells together would have "
        "fewer counts if they were controls",
    )
    max_fdr: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="false discovery rate (Benjamini-Hochberg) of a target's change, else "
        "unclear_knockdown or unclear_activation, and of num_de_genes",
    )
    num_mads: float = Field(
        5,
        gt=0,
        description="outlier cells: log1p of UMI or of detected genes this many median absolute "
        "deviations from the cell type's median",
    )
    max_outlier_share: float = Field(
        0.1, gt=0, lt=1, description="many_outliers: a larger share of outlier cells"
    )
    min_control_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="few_controls: batches whose share of controls is below this part of the "
        "cell type's",
    )


class Checked(Section):
    """What check_dataset reads."""

    effect: Effect = Field("down", description="datasets.<name>.effect")
    thresholds: Checks = Field(Checks(), description="checks")
