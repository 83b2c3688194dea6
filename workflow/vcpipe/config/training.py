"""The settings of the one training loop, shared by pretraining and finetuning."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section


class Optimizer(Section):
    name: Literal["adam", "adamw"] = Field("adam", description="optimiser")
    lr: float = Field(1e-4, gt=0, le=1, description="learning rate")
    weight_decay: float = Field(0.0, ge=0, le=1, description="weight decay (scGPT: none)")


class Scheduler(Section):
    name: Literal["constant", "step", "cosine_warmup"] = Field(
        "step", description="constant; step: lr x gamma^epoch; cosine_warmup: to zero at the end"
    )
    gamma: float = Field(0.9, gt=0, le=1, description="step: factor per epoch")
    warmup_steps: int = Field(0, ge=0, description="updates over which the rate rises from zero")


class EarlyStopping(Section):
    monitor: Literal["train_loss", "val_loss"] = Field(
        "val_loss", description="the lowest value decides which epoch is kept"
    )
    patience: int = Field(10, ge=1, description="epochs without a better value before the stop")


class Training(Section):
    batch_size: int = Field(64, ge=1, description="cells per step and process")
    max_epochs: int = Field(15, ge=1, description="epochs in all, also after a resume")
    gradient_accumulation: int = Field(1, ge=1, description="batches per update")
    gradient_clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null: any")
    precision: Literal["32", "bf16-mixed", "16-mixed"] = Field(
        "32", description="arithmetic of the forward pass; 16-mixed needs a GPU"
    )
    early_stopping: EarlyStopping = Field(EarlyStopping(), description="when to stop")
    log_every_n_steps: int = Field(10, ge=1, description="rows of metrics.csv")
    checkpoint_every_n_steps: int = Field(
        500, ge=1, description="updates between two checkpoints to resume from (and every epoch)"
    )
    seed: int = Field(42, ge=0, description="weights, order of cells, masks and dropout")

    # YAML reads a bare 32 as a number.
    @model_validator(mode="before")
    @classmethod
    def _precision_is_text(cls, values):
        if isinstance(values, dict) and isinstance(values.get("precision"), int):
            return values | {"precision": str(values["precision"])}
        return values
