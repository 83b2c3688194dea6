"""pretrain.<run>.masked_values: scGPT's objective, all of its parts."""

from typing import Annotated, Literal

from pydantic import Field

from vcpipe.config.section import Section

Ratio = Annotated[float, Field(gt=0, lt=1)]


class MaskedValues(Section):
    """scGPT's gene expression prediction: hide some values, predict them from the rest.

    The other parts of scGPT's objective are off by default; each is the mean of a batch, of all
    processes, times its weight, and is added to the mean squared error of the hidden values.
    """

    mask_ratio: list[Ratio] = Field(
        [0.25, 0.5, 0.75],
        min_length=1,
        description="shares of hidden values; one is drawn for each cell and epoch",
    )
    attention: Literal["full", "generative"] = Field(
        "full",
        description="who sees whom: all genes see all, hidden ones by a value of their own; or "
        "known genes see known ones, and a hidden one sees these and itself (scGPT's pretraining)",
    )
    mvc_weight: float = Field(
        0.0,
        ge=0,
        description="of the hidden values as the cell's embedding alone predicts them (scGPT: MVC, "
        "GEPC; 1)",
    )
    gen_weight: float = Field(
        0.0,
        ge=0,
        description="of the hidden values, predicted a second time from the known ones and the "
        "cell's embedding, which stands where <cls> stood; such updates take nearly twice the time "
        "(scGPT's pretraining: 1)",
    )
    gen_from_update: int = Field(
        1000, ge=0, description="the first update with gen; before it embeddings say little"
    )
    ecs_weight: float = Field(
        0.0,
        ge=0,
        description="of elastic cell similarity: embeddings of a batch's cells are alike or far "
        "apart (scGPT: ECS; 10)",
    )
    ecs_threshold: float = Field(
        0.3, ge=0, le=1, description="the cosine that cells move away from (finetuning: 0.8)"
    )
    dar_weight: float = Field(
        0.0,
        ge=0,
        description="of batches, predicted from an embedding that learns to hide them (scGPT: DAR, "
        "DAB; 1)",
    )
    cls_weight: float = Field(
        0.0,
        ge=0,
        description="of cell types, predicted from the embedding; cells without one do not count "
        "(scGPT: CLS; 1)",
    )
    cce_weight: float = Field(
        0.0,
        ge=0,
        description="of telling a cell's second embedding, by another dropout, from those of the "
        "other cells of its batch (scGPT: CCE; 10)",
    )
    cce_temperature: float = Field(0.5, gt=0, description="divides the cosines of cce")

    def of_cells(self) -> list[str]:
        """The parts that are learned from a cell's embedding."""
        names = ("mvc", "gen", "ecs", "dar", "cls", "cce")
        return [name for name in names if getattr(self, f"{name}_weight")]

    def of_batches(self) -> bool:
        """Whether a part is a mean over the cells of a batch, of which processes have some each."""
        return bool({"ecs", "dar", "cls", "cce"}.intersection(self.of_cells()))
