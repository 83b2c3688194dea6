"""splits.<name>: which perturbations a model may learn from."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section


class Split(Section):
    """Whole perturbations go to train, val or test; half of the controls is kept for scoring."""

    method: Literal["simulation", "no_split", "custom"] = Field(
        "simulation",
        description=(
            "simulation: GEARS's, by target gene; "
            "no_split: all train, and scored on what was seen; custom: a table"
        ),
    )
    train_gene_set_size: float = Field(
        0.75, gt=0, lt=1, description="share of target genes in train (a tenth of these is val)"
    )
    combo_seen2_train_fraction: float = Field(
        0.85, gt=0, lt=1, description="share of combinations of two train genes that is in train"
    )
    seed: int = Field(1, ge=0, description="decides the draw, as in GEARS")
    path: str | None = Field(
        None, description="custom: TSV with columns condition, set (train, val, test)"
    )

    @model_validator(mode="after")
    def _custom_has_a_path(self):
        if (self.method == "custom") != (self.path is not None):
            raise ValueError("path and method: custom go together; set both or neither")
        return self
