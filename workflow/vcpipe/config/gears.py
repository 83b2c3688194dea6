"""gears: how a screen becomes the files that GEARS and scGPT read."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.datasets import Columns
from vcpipe.config.section import Section


class Normalisation(Section):
    """X = log1p(counts x target_sum / counts of the cell); raw counts stay in layers['counts']."""

    target_sum: float = Field(1e4, gt=0, description="counts per cell after normalisation")
    num_de_genes: int = Field(20, ge=1, description="genes in the top lists; GEARS expects 20")


class Pairing(Section):
    """One control cell for each perturbed cell; half of the controls is kept for scoring."""

    seed: int = Field(
        0, ge=0, description="decides the halves, and which control stands beside which cell"
    )
    within: Literal["screen", "cell_type", "batch"] = Field(
        "cell_type",
        description=(
            "the control is of the cell's own cell type; batch: and of its batch; "
            "screen: any (as in GEARS)"
        ),
    )


PERTURBED = "perturbed"  # in place of a gene2go file


class CellGraphs(Section):
    """data_pyg/cell_graphs.pkl: every perturbed cell beside its control."""

    layout: Literal["0.1.2", "0.0.2"] = Field(
        "0.1.2",
        description=(
            "the cell-gears that is to read it; 0.0.2, which scGPT's tutorial needs, has a second "
            "column of x with the flags of perturbed genes, and no pert_idx"
        ),
    )
    gene2go: str | None = Field(
        None,
        description=(
            "layout 0.1.2: the gene2go_all.pkl that GEARS is given, whose genes pert_idx counts; "
            "or the word perturbed: it counts the perturbed genes, for readers other than GEARS"
        ),
    )
    include_scoring_controls: bool = Field(
        False,
        description=(
            "keep the control cells that a split reserves for scoring, beside themselves as in "
            "GEARS"
        ),
    )

    def gene2go_file(self) -> str | None:
        return None if self.gene2go == PERTURBED else self.gene2go

    @model_validator(mode="after")
    def _layout_has_pert_idx(self):
        if self.gene2go is not None and self.layout == "0.0.2":
            raise ValueError(
                f"gene2go is {self.gene2go!r}, but layout 0.0.2 has no pert_idx to count by it; "
                "leave gene2go out or set layout to 0.1.2"
            )
        return self


class Gears(Section):
    normalisation: Normalisation = Field(Normalisation(), description="perturb_processed.h5ad")
    pairing: Pairing = Field(Pairing(), description="controls: halves, and one for each cell")
    cell_graphs: CellGraphs = Field(CellGraphs(), description="data_pyg/cell_graphs.pkl")


class Conversion(Section):
    """What convert_to_gears reads."""

    dataset: Columns = Field(Columns(), description="names of the input's columns and its policies")
    normalisation: Normalisation = Field(Normalisation(), description="gears.normalisation")
