"""gears: how a screen becomes the files that GEARS and scGPT read."""

from pydantic import Field

from vcpipe.config.datasets import Columns
from vcpipe.config.section import Section


class Normalisation(Section):
    """X = log1p(counts x target_sum / counts of the cell); raw counts stay in layers['counts']."""

    target_sum: float = Field(1e4, gt=0, description="counts per cell after normalisation")
    num_de_genes: int = Field(20, ge=1, description="genes in the top lists; GEARS expects 20")


class CellGraphs(Section):
    """data_pyg/cell_graphs.pkl: one control cell for each perturbed cell, drawn with a seed."""

    seed: int = Field(0, ge=0, description="decides which control stands beside which cell")
    within_batch: bool = Field(
        False, description="draw the control from the cell's own batch (GEARS: any batch)"
    )


class Gears(Section):
    normalisation: Normalisation = Field(Normalisation(), description="perturb_processed.h5ad")
    cell_graphs: CellGraphs = Field(CellGraphs(), description="data_pyg/cell_graphs.pkl")


class Conversion(Section):
    """What convert_to_gears reads."""

    dataset: Columns = Field(Columns(), description="names of the input's columns and its policies")
    normalisation: Normalisation = Field(Normalisation(), description="gears.normalisation")
