"""loader: scDataset's training experiments, one classifier under each way to load cells."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vcpipe.config.loading import Loading
from vcpipe.config.section import Section
from vcpipe.config.training import EarlyStopping, Optimizer, Scheduler, Training
from vcpipe.errors import listed

Backend = Literal["h5ad", "zarr", "store"]

# What a cell is classified by, as Tahoe-100M's obs columns are called.
TASKS = ("cell_line", "drug", "moa-broad", "moa-fine")
# The pairs of labels that the weighted strategies balance.
WEIGHT_BY = ("cell_line", "drug")


def plate_numbers(name: str) -> set[int]:
    """The plates that a file is called after: plate14_filt_Vevo.h5ad is plate 14."""
    return {int(digits) for digits in re.findall(r"(?i)plate[_-]?(\d+)", name)}


class SimulatedPlates(Section):
    """A small Tahoe-100M whose cells lie sorted by drug (simulate_plates)."""

    num_plates: int = Field(6, ge=3, le=99, description="plates, numbered from 1")
    cells_per_plate: int = Field(1500, ge=50, description="cells of a plate")
    num_genes: int = Field(600, ge=50, description="genes")
    num_cell_lines: int = Field(10, ge=2, description="cell lines, on every plate")
    num_drugs: int = Field(24, ge=4, description="drugs, the control DMSO_TF included")
    num_moas: int = Field(8, ge=3, description="fine mechanisms of action, unclear included")
    common_drugs: int = Field(
        3, ge=1, description="drugs on every plate, the control included; others are on one"
    )
    repeated_plates: int = Field(
        2, ge=1, description="last plates that repeat drugs of all others, for val and test"
    )
    skew: float = Field(
        30, ge=1, description="most cells of a (cell_line, drug) by fewest; log-uniform between"
    )
    line_strength: float = Field(
        0.6, ge=0, description="standard deviation of a cell line's log effect on a gene"
    )
    drug_strength: float = Field(
        0.5, ge=0, description="the same of a drug, on a fifth of the genes"
    )
    moa_share: float = Field(
        0.6, ge=0, le=1, description="share of a drug's effect that its mechanism has"
    )
    batch_strength: float = Field(0.1, ge=0, description="the same of a plate, on every gene")
    depth: float = Field(2000, gt=0, description="mean counts per cell")
    dispersion: float = Field(
        0.15, gt=0, description="negative-binomial overdispersion: variance = mean + this x mean^2"
    )
    seed: int = Field(11, ge=0, description="decides everything that is drawn")

    @model_validator(mode="after")
    def _consistent(self):
        if self.repeated_plates >= self.num_plates:
            raise ValueError(
                f"repeated_plates is {self.repeated_plates} of num_plates {self.num_plates}; "
                "expected fewer, for drugs are repeated from the other plates"
            )
        own = self.num_drugs - self.common_drugs
        if own < self.num_plates - self.repeated_plates:
            raise ValueError(
                f"num_drugs is {self.num_drugs} and common_drugs {self.common_drugs}; expected at "
                f"least {self.num_plates - self.repeated_plates} drugs beside the common ones, "
                "for every plate that repeats none has one of its own"
            )
        if self.num_moas > self.num_drugs:
            raise ValueError(
                f"num_moas is {self.num_moas} and num_drugs {self.num_drugs}; expected a drug or "
                "more for each mechanism"
            )
        return self


class LoaderData(Section):
    """Plates of labelled cells. Exactly one of h5ad_dir and simulate says where they are from."""

    h5ad_dir: str | None = Field(
        None, description="folder of h5ad files, one a plate, whose names hold plate<number>"
    )
    simulate: SimulatedPlates | None = Field(None, description="plates to be simulated")
    label_dir: str | None = Field(
        None,
        description="folder of moa-broad.json and moa-fine.json, {drug: label}, and perhaps of "
        "cell_line.json and drug.json, their classes; null: labels are obs columns, classes those "
        "of training cells",
    )
    train_plates: list[int] = Field(
        list(range(1, 13)), min_length=1, description="plates that are learned from"
    )
    val_plates: list[int] = Field(
        [13], description="plates whose loss chooses among epochs; empty: that of training does"
    )
    test_plates: list[int] = Field([14], min_length=1, description="plates that are scored, once")
    max_train_cells: int | None = Field(
        None, ge=1, description="learn from the first cells only; null: all"
    )
    max_val_cells: int | None = Field(
        None, ge=1, description="val_loss of so many cells, evenly spaced; null: all"
    )
    max_test_cells: int | None = Field(
        None, ge=1, description="score the first cells only; null: all"
    )

    @field_validator("h5ad_dir", "label_dir")
    @classmethod
    def _not_empty(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("expected a folder, or null")
        return value

    @model_validator(mode="after")
    def _consistent(self):
        sources = [key for key in ("h5ad_dir", "simulate") if getattr(self, key) is not None]
        if len(sources) != 1:
            raise ValueError(
                f"has {' and '.join(sources) or 'no source'}; expected exactly one of h5ad_dir, "
                "simulate"
            )
        sets = [*self.train_plates, *self.val_plates, *self.test_plates]
        twice = sorted({plate for plate in sets if sets.count(plate) > 1})
        if twice:
            raise ValueError(
                f"plate {listed(twice)} stands more than once in train_plates, val_plates and "
                "test_plates; expected each in one, once: what is scored must not be learned from"
            )
        if self.simulate and not 1 <= min(sets) <= max(sets) <= self.simulate.num_plates:
            raise ValueError(
                f"plates {min(sets)} to {max(sets)} are asked for; expected 1 to "
                f"{self.simulate.num_plates}, as simulate.num_plates says"
            )
        return self


class TrainingCells(Section):
    """What shuffle_plates and collect_plates read of the section."""

    train_plates: list[int] = Field(min_length=1, description="plates to write")
    max_train_cells: int | None = Field(None, ge=1, description="the first cells only; null: all")
    columns: list[str] = Field(
        ["plate", *TASKS], min_length=1, description="obs columns to keep: plates and labels"
    )


class LoaderTraining(Section):
    batch_size: int = Field(64, ge=1, description="cells per update")
    num_epochs: int = Field(1, ge=1, description="epochs; that of the lowest val_loss is scored")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of Adam, constant")
    seeds: list[int] = Field(
        [0, 1, 2],
        min_length=1,
        description="a run of each: weights and order of cells; intervals need 2, better 3",
    )
    input: Literal["counts", "log1p"] = Field(
        "counts", description="what the classifier sees: counts, or log1p of counts per 10,000"
    )

    @field_validator("seeds")
    @classmethod
    def _differ(cls, value: list[int]) -> list[int]:
        if min(value, default=0) < 0 or len(set(value)) < len(value):
            raise ValueError("expected different numbers of 0 or more; the same run twice is one")
        return value


class ScDataset(Section):
    fetch_factor: int = Field(256, ge=1, description="batches in the buffer that is shuffled")
    num_workers: int = Field(
        8, ge=1, description="threads of the process that read ahead, one at least"
    )


class Weights(Section):
    min_count_baseline: int = Field(
        1000, ge=0, description="added to the cells of each (cell_line, drug) before balancing"
    )


class StreamingArm(Section):
    enabled: bool = Field(True, description="run it")
    shuffle: bool = Field(False, description="false; with true it is streaming_buffer")

    @field_validator("shuffle")
    @classmethod
    def _as_its_name_says(cls, value: bool) -> bool:
        if value:
            raise ValueError("expected false: shuffled in the buffer, it is streaming_buffer")
        return value


class BufferedArm(Section):
    enabled: bool = Field(True, description="run it")
    shuffle: bool = Field(True, description="true; with false it is streaming")

    @field_validator("shuffle")
    @classmethod
    def _as_its_name_says(cls, value: bool) -> bool:
        if not value:
            raise ValueError("expected true: without a shuffled buffer, it is streaming")
        return value


class BlockArm(Section):
    enabled: bool = Field(True, description="run it")
    block_size: int = Field(16, ge=1, description="cells that are read together")


class CellArm(Section):
    enabled: bool = Field(True, description="run it")
    block_size: int = Field(1, ge=1, description="1; with more it is the strategy of blocks")

    @field_validator("block_size")
    @classmethod
    def _as_its_name_says(cls, value: int) -> int:
        if value != 1:
            raise ValueError("expected 1: larger blocks are block_shuffling or block_weighted")
        return value


class FullShuffleArm(Section):
    enabled: bool = Field(True, description="run it")
    block_size: int | None = Field(
        None, ge=1, description="cells that are read together; null: a block of the store"
    )


class Strategies(Section):
    streaming: StreamingArm = Field(StreamingArm(), description="in order on disk")
    streaming_buffer: BufferedArm = Field(
        BufferedArm(), description="in order on disk, shuffled in the buffer"
    )
    block_shuffling: BlockArm = Field(BlockArm(), description="blocks in random order")
    random_sampling: CellArm = Field(CellArm(), description="cells in random order")
    block_weighted: BlockArm = Field(BlockArm(), description="drawn by weight, in blocks")
    true_weighted: CellArm = Field(CellArm(), description="drawn by weight, cell by cell")
    full_shuffle: FullShuffleArm = Field(
        FullShuffleArm(), description="our store: shuffled on disk once, then read in blocks"
    )

    @model_validator(mode="after")
    def _one_at_least(self):
        if not self.enabled():
            raise ValueError("all are disabled; enable one, or leave the section loader out")
        return self

    def enabled(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name).enabled]


# Runs are timed, so they are never resumed: a checkpoint within an epoch would only take time.
_NEVER = 2**31

STRATEGIES = tuple(Strategies.model_fields)
WEIGHTED = ("block_weighted", "true_weighted")


class Output(Section):
    save_dir: Literal["./results"] | None = Field(
        None, description="of scDataset's files; ours are in results/, as Snakemake names them"
    )
    log_interval: int = Field(100, ge=1, description="updates between two rows of metrics.csv")

    @field_validator("save_dir", mode="before")
    @classmethod
    def _named_by_snakemake(cls, value):
        if value not in (None, "./results"):
            raise ValueError(
                "Snakemake names the folders: expected null, or ./results as scDataset's file has "
                "it; for another place, run in another folder (snakemake --directory)"
            )
        return value


class Loader(Section):
    data: LoaderData = Field(description="plates and labels")
    training: LoaderTraining = Field(LoaderTraining(), description="of the classifier")
    scdataset: ScDataset = Field(ScDataset(), description="buffer and threads")
    weights: Weights = Field(Weights(), description="of the weighted strategies")
    strategies: Strategies = Field(Strategies(), description="the arms of the comparison")
    output: Output = Field(Output(), description="logs")
    backend: Backend = Field(
        "h5ad",
        description="what is read: the plates as they are, a zarr collection of them in the same "
        "order, or our store, which is shuffled whatever the strategy; full_shuffle: always store",
    )
    cache: Literal["cold", "warm"] = Field(
        "warm",
        description="warm: files are read once before a run; cold: the system forgets them first",
    )

    def training_cells(self) -> TrainingCells:
        """Labels that follow from the drug, by the files in label_dir, need no column."""
        return TrainingCells(
            train_plates=self.data.train_plates,
            max_train_cells=self.data.max_train_cells,
            columns=["plate", *(TASKS if self.data.label_dir is None else WEIGHT_BY)],
        )

    def backend_of(self, strategy: str) -> Backend:
        return "store" if strategy == "full_shuffle" else self.backend

    def only(self, strategy: str) -> "Loader":
        """What a run of one strategy depends on: all else stands at its default."""
        kept = Strategies(**{strategy: getattr(self.strategies, strategy)})
        changes: dict = {"strategies": kept}
        if strategy not in WEIGHTED:
            changes["weights"] = Weights()
        if strategy == "full_shuffle":
            changes["backend"] = type(self).model_fields["backend"].default
        return self.model_copy(update=changes)

    def loading(self, strategy: str) -> Loading:
        """The order in which a strategy sees cells, in the loader's own words."""
        arm = getattr(self.strategies, strategy)
        common = {"fetch_factor": self.scdataset.fetch_factor}
        if strategy == "full_shuffle":
            return Loading(strategy="block_shuffling", block_size=arm.block_size, **common)
        if strategy in ("streaming", "streaming_buffer"):
            return Loading(strategy=strategy, **common)
        if strategy in WEIGHTED:
            common["weight_by"] = list(WEIGHT_BY)
            common["min_count_baseline"] = self.weights.min_count_baseline
        return Loading(strategy=strategy, block_size=arm.block_size, **common)

    def fitting(self, seed: int) -> tuple[Optimizer, Scheduler, Training]:
        """Adam at one rate, as scDataset's experiments have it; every epoch is run."""
        training = Training(
            batch_size=self.training.batch_size,
            max_epochs=self.training.num_epochs,
            gradient_clip=None,
            early_stopping=EarlyStopping(
                monitor="val_loss" if self.data.val_plates else "train_loss",
                patience=self.training.num_epochs,
            ),
            log_every_n_steps=self.output.log_interval,
            checkpoint_every_n_steps=_NEVER,
            seed=seed,
        )
        optimizer = Optimizer(name="adam", lr=self.training.learning_rate)
        return optimizer, Scheduler(name="constant"), training
