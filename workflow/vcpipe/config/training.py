"""The settings of the one training loop, shared by pretraining and finetuning."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section

TO_THE_END = ("cosine_warmup", "cosine", "linear")
# What a finetuning run says of held-out perturbations besides its loss; higher is better.
SCORES = ("val_delta_pearson", "val_discrimination")
# By setting of Scheduler: the schedules that read it.
READ_BY = {
    "gamma": ("step", "cosine_restarts"),
    "warmup_steps": ("constant", "step", "cosine_warmup", "linear", "cosine_restarts"),
    "total_steps": TO_THE_END,
    "min_lr": (*TO_THE_END, "cosine_restarts"),
    "first_cycle_epochs": ("cosine_restarts",),
    "cycle_mult": ("cosine_restarts",),
}


class Optimizer(Section):
    name: Literal["adam", "adamw"] = Field("adam", description="optimiser")
    lr: float = Field(1e-4, gt=0, le=1, description="learning rate")
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight decay of matrices; biases, norms and embeddings have none (scGPT: 0)",
    )


class Scheduler(Section):
    name: Literal["constant", "step", "cosine_warmup", "cosine", "linear", "cosine_restarts"] = (
        Field(
            "step",
            description="constant; step: lr × gamma^epoch; cosine_warmup, cosine, linear: to "
            "min_lr at the end; cosine_restarts: the same in cycles. All but step move at every "
            "update",
        )
    )
    gamma: float = Field(
        0.9, gt=0, le=1, description="step: factor per epoch; cosine_restarts: per cycle"
    )
    warmup_steps: int = Field(
        0,
        ge=0,
        description="updates over which the rate rises from zero; cosine_restarts: of every "
        "cycle; cosine: none",
    )
    total_steps: int | None = Field(
        None, ge=1, description="updates after which the rate stays at min_lr; null: of the run"
    )
    min_lr: float = Field(0.0, ge=0, le=1, description="lowest rate of cosines and linear")
    first_cycle_epochs: int = Field(
        15, ge=1, description="cosine_restarts: epochs of the first cycle"
    )
    cycle_mult: float = Field(
        2, ge=1, description="cosine_restarts: length of a cycle by that of the one before"
    )

    @model_validator(mode="after")
    def _no_inert_keys(self):
        for key, names in READ_BY.items():
            if getattr(self, key) != type(self).model_fields[key].default and (
                self.name not in names
            ):
                raise ValueError(
                    f"{key} is read by {', '.join(names)}, and name is {self.name}; leave it out"
                )
        if self.total_steps is not None and self.warmup_steps >= self.total_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and total_steps {self.total_steps}; "
                "expected fewer steps of warm-up"
            )
        return self


class EarlyStopping(Section):
    monitor: Literal["train_loss", "val_loss", "val_delta_pearson", "val_discrimination"] = Field(
        "val_loss",
        description="the best value decides which weights are kept: the lowest loss, or in "
        "finetuning the highest val_delta_pearson (what sets held-out perturbations apart from the "
        "mean of the training perturbations) or val_discrimination (their rank among each other)",
    )
    patience: int = Field(10, ge=1, description="epochs without a better value before the stop")

    @property
    def is_score(self) -> bool:
        """Whether a higher value is better, and a run must say it of held-out perturbations."""
        return self.monitor in SCORES

    @property
    def needs_val(self) -> bool:
        return self.monitor != "train_loss"


class Training(Section):
    batch_size: int = Field(64, ge=1, description="cells per step and process")
    max_epochs: int = Field(15, ge=1, description="epochs in all, also after a resume")
    gradient_accumulation: int = Field(1, ge=1, description="batches per update")
    gradient_clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null: any")
    precision: Literal["32", "bf16-mixed", "16-mixed", "auto"] = Field(
        "32",
        description="arithmetic of the forward pass; 16-mixed needs a GPU; auto: bf16-mixed on a "
        "GPU that has it, else 32",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="what processes share: ddp: gradients; fsdp: weights and optimiser too, for "
        "models that fill a GPU; auto: ddp",
    )
    compile: bool = Field(False, description="torch.compile the model: slow to start, then faster")
    early_stopping: EarlyStopping = Field(EarlyStopping(), description="when to stop")
    validate_every_n_epochs: int = Field(
        1, ge=1, description="epochs between two val_loss (and the last epoch)"
    )
    validate_every_n_steps: int | None = Field(
        None, ge=1, description="updates between two val_loss within epochs; null: none"
    )
    log_every_n_steps: int = Field(10, ge=1, description="rows of metrics.csv")
    logger: Literal["csv", "tensorboard", "wandb"] = Field(
        "csv",
        description="where rows go beside metrics.csv; tensorboard and wandb must be installed",
    )
    wandb_project: str = Field("vcpipe", min_length=1, description="wandb: name of the project")
    wandb_mode: Literal["offline", "online"] = Field(
        "offline", description="wandb: offline keeps all on disk, for wandb sync"
    )
    checkpoint_every_n_steps: int = Field(
        500, ge=1, description="updates between two checkpoints to resume from"
    )
    checkpoint_every_n_epochs: int = Field(
        1, ge=1, description="epochs between two checkpoints to resume from (and the last epoch)"
    )
    save_top_k: int = Field(
        1, ge=1, description="weights to keep, of the lowest values of early_stopping.monitor"
    )
    seed: int = Field(42, ge=0, description="weights, order of cells, masks and dropout")

    # YAML reads a bare 32 as a number.
    @model_validator(mode="before")
    @classmethod
    def _precision_is_text(cls, values):
        if isinstance(values, dict) and isinstance(values.get("precision"), int):
            return values | {"precision": str(values["precision"])}
        return values

    @model_validator(mode="after")
    def _consistent(self):
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ValueError(
                "strategy is fsdp and precision is 16-mixed, whose scale each process would set "
                "for itself; expected bf16-mixed or 32"
            )
        if self.strategy == "fsdp" and self.compile:
            raise ValueError("strategy is fsdp and compile is true; expected one of the two")
        return self


def rate_contradictions(where: str, optimizer: Optimizer, scheduler: Scheduler) -> list[str]:
    """A rate that would not fall."""
    if scheduler.min_lr < optimizer.lr:
        return []
    return [
        f"{where}scheduler.min_lr is {scheduler.min_lr:g} and {where}optimizer.lr is "
        f"{optimizer.lr:g}; expected a lower min_lr"
    ]
