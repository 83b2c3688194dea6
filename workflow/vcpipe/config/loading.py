"""pretrain.<run>.loading, finetune.<run>.loading: in which order cells are read and seen."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section

StrategyName = Literal[
    "streaming",
    "streaming_buffer",
    "block_shuffling",
    "random_sampling",
    "block_weighted",
    "true_weighted",
    "class_balanced",
    "within_group",
]
WEIGHTED = ("block_weighted", "true_weighted", "class_balanced")
# One draw is a block of its own.
CELL_BY_CELL = ("random_sampling", "true_weighted")


class Loading(Section):
    strategy: StrategyName = Field(
        "block_shuffling",
        description="streaming, streaming_buffer: in order on disk, the latter shuffled in the "
        "buffer; block_shuffling, random_sampling: blocks of cells, or cells, in random order; "
        "block_weighted, true_weighted: drawn by weight, with replacement; class_balanced: all "
        "classes alike; within_group: all cells of a batch from one group of the store",
    )
    block_size: int | None = Field(
        None,
        ge=1,
        description="cells that are read together; null: as many as lie together on disk",
    )
    fetch_factor: int = Field(
        256, ge=1, description="batches in the buffer in which cells are shuffled"
    )
    weight_by: list[str] = Field(
        [], description="labels of cells; each combination of them gets a weight by its size"
    )
    min_count_baseline: int = Field(
        1000,
        ge=0,
        description="weighted: weight of a combination = cells / (combinations × (its cells + "
        "this)), so that a rare one is not learned by heart; class_balanced: 0",
    )
    num_samples: int | None = Field(
        None, ge=1, description="weighted: draws of an epoch; null: as many as there are cells"
    )

    @model_validator(mode="after")
    def _consistent(self):
        if (self.strategy in WEIGHTED) != bool(self.weight_by):
            raise ValueError(
                f"strategy is {self.strategy} and weight_by is {self.weight_by}; "
                f"{', '.join(WEIGHTED)} need labels in weight_by, others have no use for them"
            )
        if self.strategy in CELL_BY_CELL and self.block_size not in (None, 1):
            raise ValueError(
                f"block_size is {self.block_size} and strategy is {self.strategy}, which reads "
                "cell by cell; leave block_size out"
            )
        if self.num_samples is not None and self.strategy not in WEIGHTED:
            raise ValueError(
                f"num_samples is {self.num_samples} and strategy is {self.strategy}, which sees "
                "every cell once; leave num_samples out"
            )
        return self
