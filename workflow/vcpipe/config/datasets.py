"""datasets.<name>: where cells come from and what their columns are called."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vcpipe.config.section import Section

# What a perturbation does to the expression of its target.
Effect = Literal["down", "up", "none"]


class Simulation(Section):
    """A perturbation screen with known truth (simulate_screen)."""

    num_cells: int = Field(3000, ge=20, description="cells, controls included")
    num_genes: int = Field(1200, ge=20, description="genes; real human symbols while they last")
    num_targets: int = Field(40, ge=2, description="perturbed genes")
    num_batches: int = Field(4, ge=1, description="batches, each with its own effect on every gene")
    num_programs: int = Field(
        8, ge=2, description="gene programs; genes of one program have near effects"
    )
    program_variation: float = Field(
        0.5,
        ge=0,
        description="standard deviation of a program's log activity from cell to cell",
    )
    control_fraction: float = Field(0.17, gt=0, lt=1, description="share of control cells")
    null_fraction: float = Field(
        0.15, ge=0, lt=1, description="share of targets without any downstream effect"
    )
    knockdown: float = Field(
        0.8, gt=0, lt=1, description="mean share of the target's expression that a guide removes"
    )
    effect_size: float = Field(
        1.0, ge=0, description="typical |log2 fold change| of a direct downstream gene"
    )
    downstream_genes: int = Field(
        40, ge=2, description="direct downstream genes of a target; half are of its own program"
    )
    batch_strength: float = Field(
        0.15, ge=0, description="standard deviation of the log batch effect"
    )
    depth: float = Field(5000, gt=0, description="mean counts per cell")
    dispersion: float = Field(
        0.15, gt=0, description="negative-binomial overdispersion: variance = mean + this x mean^2"
    )
    seed: int = Field(7, ge=0, description="decides everything that is drawn")

    @model_validator(mode="after")
    def _large_enough(self):
        program_size = self.num_genes // self.num_programs
        # Half of them are of the target's program, which must hold as many again to choose from.
        if self.downstream_genes >= program_size:
            raise ValueError(
                f"downstream_genes is {self.downstream_genes}; expected fewer than the "
                f"{program_size} genes of a program (num_genes {self.num_genes} / num_programs "
                f"{self.num_programs}); lower downstream_genes or num_programs, or raise num_genes"
            )
        # Only the better-expressed third is perturbed, so that a knock-down can be measured.
        most = self.num_programs * (program_size // 3)
        if self.num_targets > most:
            raise ValueError(
                f"num_targets is {self.num_targets}; expected at most {most}, the better-expressed "
                f"third of num_genes {self.num_genes}; lower num_targets or raise num_genes"
            )
        controls = round(self.control_fraction * self.num_cells)
        if controls < 10 or self.num_cells - controls < 10 * self.num_targets:
            raise ValueError(
                f"num_cells is {self.num_cells}: {controls} controls and "
                f"{self.num_cells - controls} cells of {self.num_targets} targets; expected "
                "at least 10 controls and 10 cells a target; raise num_cells or change "
                "control_fraction"
            )
        return self


class Download(Section):
    """A file that fetch_dataset downloads and checks."""

    url: str = Field(description="address of the h5ad", pattern=r"^(https?|file)://")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="expected hash; a file that differs is refused"
    )


class Columns(Section):
    """What a screen's columns are called, and what to do with cells that do not fit."""

    perturbation_key: str | None = Field(
        None,
        description="obs column with the perturbed gene of each cell; null: found by its labels, "
        "usual names of controls beside measured genes",
    )
    control_label: str | list[str] | None = Field(
        None,
        description="its value in control cells, or several (exact match); null: found if it has "
        "a usual name of controls",
    )
    drop_labels: list[str] = Field(
        [], description="labels whose cells are left out (unassigned, multiplet)"
    )
    target_pattern: str | None = Field(
        None,
        description="regular expression of a whole label whose first group is what was perturbed, "
        "([^_]+)_.* for STAT1_guide2; null: the label itself",
    )
    combination_separator: str = Field(
        "+", min_length=1, description="what joins the two genes of a combination"
    )
    batch_key: str | None = Field("batch", description="obs column with the batch; null: one batch")
    cell_type_key: str | None = Field(
        None, description="obs column with the cell type; null: cell_type for every cell"
    )
    cell_type: str = Field(
        "unknown", min_length=1, description="cell type where cell_type_key is null; no underscore"
    )
    unsafe_cell_types: Literal["replace", "error"] = Field(
        "error",
        description="cell types with an underscore or slash, where GEARS splits names: replace "
        "these by hyphens, or stop",
    )
    gene_name_key: str | None = Field(
        None, description="var column with gene symbols; null: the index of var"
    )
    counts_layer: str | None = Field(None, description="layer with raw counts; null: X")
    unknown_targets: Literal["keep", "drop", "error"] = Field(
        "error",
        description="perturbed genes that were not measured: keep them, drop their cells, or stop",
    )
    small_perturbations: Literal["drop", "error"] = Field(
        "error", description="perturbations with fewer than min_cells cells: drop them, or stop"
    )
    min_cells: int = Field(2, ge=2, description="least cells of a perturbation (a t-test needs 2)")

    @field_validator("control_label", mode="before")
    @classmethod
    def _one_label_or_several(cls, value):
        labels = value if isinstance(value, list) else [value]
        wrong = [label for label in labels if not isinstance(label, str)]
        if value is not None and (wrong or not labels):
            raise ValueError("expected a label or a list of labels, in quotes if they are numbers")
        return value

    @field_validator("target_pattern")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        try:
            groups = re.compile("()" if value is None else value).groups
        except re.error as error:
            raise ValueError(f"expected a regular expression ({error})") from error
        if groups == 0:
            raise ValueError("expected a group in parentheses around what was perturbed")
        return value

    @field_validator("cell_type")
    @classmethod
    def _no_underscore(cls, value: str) -> str:
        # GEARS and scGPT split "{cell_type}_{condition}_{dose}" at underscores.
        if "/" in value:
            raise ValueError("expected no slash, HDF5 makes folders of names with one")
        if "_" in value:
            raise ValueError(
                "expected no underscore, GEARS and scGPT split names there; "
                f"use {value.replace('_', '-')!r}"
            )
        return value

    @model_validator(mode="after")
    def _one_cell_type(self):
        # A default may be written out: stages hand on every setting.
        if self.cell_type_key and self.cell_type != type(self).model_fields["cell_type"].default:
            raise ValueError("set cell_type_key or cell_type, not both")
        return self

    @model_validator(mode="after")
    def _kept_or_dropped(self):
        given = self.control_label
        both = {*self.drop_labels}.intersection(given if isinstance(given, list) else [given])
        if both:
            raise ValueError(
                f"{min(both)!r} stands in control_label and in drop_labels; expected it in one"
            )
        return self


class Dataset(Columns):
    """One screen. Exactly one of path, download, simulate says where it comes from."""

    path: str | None = Field(None, description="h5ad on this machine")
    download: Download | None = Field(None, description="h5ad to be fetched (fetch_dataset)")
    simulate: Simulation | None = Field(None, description="h5ad to be simulated (simulate_screen)")
    effect: Effect = Field(
        "down",
        description="what check_dataset expects of a target's expression: down (CRISPRi), "
        "up (CRISPRa), none (no judgement: drugs, knock-outs that leave the transcript)",
    )

    def same_cells(self, other: "Dataset") -> bool:
        """Whether both come from the same place, whatever they are called."""
        places = [(each.path, each.download, each.simulate) for each in (self, other)]
        return places[0] == places[1]

    def columns(self) -> Columns:
        """The same without the place it comes from: what the conversion reads."""
        return Columns(**{name: getattr(self, name) for name in Columns.model_fields})
