"""splits.<name>: which perturbations a model may learn from."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section

# Settings that only some methods read; another method refuses them.
READ_BY = {
    "train_gene_set_size": ("simulation", "simulation_single"),
    "combo_seen2_train_fraction": ("simulation",),
    "combo_single_split_test_set_fraction": (
        "single",
        "combo_seen0",
        "combo_seen1",
        "combo_seen2",
    ),
    "num_folds": ("k_fold",),
    "fold": ("k_fold",),
}


class Split(Section):
    """Whole perturbations go to train, val or test."""

    method: Literal[
        "simulation",
        "simulation_single",
        "single",
        "no_test",
        "combo_seen0",
        "combo_seen1",
        "combo_seen2",
        "no_split",
        "k_fold",
        "custom",
    ] = Field(
        "simulation",
        description=(
            "as in GEARS: simulation (by target gene), simulation_single, single, combo_seen0, "
            "combo_seen1, combo_seen2, no_test (val only; scored on what was seen); "
            "no_split: all train, and scored on what was seen; "
            "k_fold: one fold of the target genes is test; custom: a table"
        ),
    )
    train_gene_set_size: float = Field(
        0.75,
        gt=0,
        lt=1,
        description=(
            "simulation, simulation_single: share of target genes in train "
            "(a tenth of these is val)"
        ),
    )
    combo_seen2_train_fraction: float = Field(
        0.85,
        gt=0,
        lt=1,
        description="simulation: share of combinations of two train genes that is in train",
    )
    combo_single_split_test_set_fraction: float = Field(
        0.1,
        gt=0,
        lt=1,
        description=(
            "single, combo_seen0, combo_seen1: genes drawn for test, as a share of the single "
            "perturbations; combo_seen2: share of combinations drawn for test"
        ),
    )
    num_folds: int = Field(
        5, ge=2, description="k_fold: parts that the target genes are dealt into"
    )
    fold: int = Field(0, ge=0, description="k_fold: the part that is test, from 0 to num_folds - 1")
    seed: int = Field(1, ge=0, lt=2**32, description="decides the draw, as in GEARS")
    path: str | None = Field(
        None, description="custom: TSV with columns condition, set (train, val, test, unused)"
    )

    @model_validator(mode="after")
    def _custom_has_a_path(self):
        if (self.method == "custom") != (self.path is not None):
            raise ValueError("path and method: custom go together; set both or neither")
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_num_folds(self):
        if self.fold >= self.num_folds:
            raise ValueError(
                f"fold is {self.fold} but num_folds is {self.num_folds}; "
                f"expected 0 to {self.num_folds - 1}"
            )
        return self

    @model_validator(mode="after")
    def _settings_belong_to_the_method(self):
        for name, methods in READ_BY.items():
            # A default may be written out: stages hand on every setting.
            if (
                self.method not in methods
                and getattr(self, name) != self.__class__.model_fields[name].default
            ):
                raise ValueError(
                    f"{name} is read by method {', '.join(methods)} and not by {self.method}; "
                    "leave it out or change method"
                )
        return self
