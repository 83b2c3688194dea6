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
    "context_key": ("held_out_context",),
    "test_contexts": ("held_out_context",),
    "val_contexts": ("held_out_context",),
    "test_list": ("published",),
    "val_list": ("published",),
    "absent_targets": ("published",),
}


class Split(Section):
    """Perturbations go to train, val or test, whole or context by context."""

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
        "held_out_context",
        "published",
        "custom",
    ] = Field(
        "simulation",
        description=(
            "as in GEARS: simulation (by target gene), simulation_single, single, combo_seen0, "
            "combo_seen1, combo_seen2, no_test (val only; scored on what was seen); "
            "no_split: all train, and scored on what was seen; "
            "k_fold: one fold of the target genes is test; "
            "held_out_context: the perturbed cells of a cell type or of batches are test; "
            "published: lists of target genes; custom: a table"
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
        0.75,
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
    context_key: Literal["cell_type", "batch"] | None = Field(
        None, description="held_out_context: what a context is"
    )
    test_contexts: list[str] = Field(
        [],
        description=(
            "held_out_context: contexts whose perturbed cells are test: one cell type, or batches"
        ),
    )
    val_contexts: list[str] = Field(
        [], description="held_out_context: contexts whose perturbed cells are val; may be none"
    )
    test_list: str | None = Field(
        None,
        description=(
            "published: file of the target genes that are test: a table with a column target_gene "
            "or condition (CSV or TSV), or one gene a line; null: scored on what was seen"
        ),
    )
    val_list: str | None = Field(
        None, description="published: the same for val; all other perturbations are train"
    )
    absent_targets: Literal["error", "ignore"] = Field(
        "error", description="published: listed targets that the screen lacks: stop, or go on"
    )
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
    def _held_out_context_names_contexts(self):
        contexts = self.test_contexts + self.val_contexts
        if self.method == "held_out_context" and not (self.context_key and self.test_contexts):
            raise ValueError("method held_out_context needs context_key and test_contexts")
        if len(set(contexts)) < len(contexts):
            raise ValueError(
                f"test_contexts and val_contexts name a context twice: {', '.join(contexts)}"
            )
        if (
            self.context_key == "cell_type"
            and max(len(self.test_contexts), len(self.val_contexts)) > 1
        ):
            raise ValueError(
                f"test_contexts is {self.test_contexts} and val_contexts is {self.val_contexts}; "
                "expected one cell type in each at most, their cells must not be pooled; "
                "make a split for each"
            )
        return self

    @model_validator(mode="after")
    def _published_has_a_list(self):
        if self.method == "published" and not (self.test_list or self.val_list):
            raise ValueError("method published needs test_list or val_list")
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

    def files(self) -> dict[str, str]:
        """The user's own files that the split reads, by their key."""
        keys = ("path", "test_list", "val_list")
        return {key: getattr(self, key) for key in keys if getattr(self, key)}

    def never_has_val(self) -> bool:
        """Whether no perturbation can be in val, whatever the screen."""
        without = {"held_out_context": not self.val_contexts, "published": not self.val_list}
        return self.method == "no_split" or without.get(self.method, False)
