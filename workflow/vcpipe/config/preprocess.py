"""preprocess.<corpus>: one frozen vocabulary, one record of what was fitted, one store of cells."""

from pydantic import Field, model_validator

from vcpipe.config.cell_store import CellStore
from vcpipe.config.fitting import CellSplit, Filters, Fit
from vcpipe.config.section import Name, Section
from vcpipe.config.vocabulary import Vocabulary


class Fitting(Section):
    """What fit_preprocessing reads."""

    cell_split: CellSplit = Field(CellSplit(), description="of atlases: train, val and test")
    filters: Filters = Field(Filters(), description="which cells enter")
    fit: Fit = Field(Fit(), description="what is learned from training cells")


class Corpus(Section):
    datasets: list[Name] = Field([], description="screens in the corpus, names in datasets")
    atlases: list[Name] = Field([], description="cells without perturbations, names in atlases")
    split: Name | None = Field(
        None,
        description=(
            "of screens, leave out the cells that this split keeps for val and test, and the "
            "control cells that are kept for scoring; null: leave out none"
        ),
    )
    like: Name | None = Field(
        None,
        description="another corpus, whose vocabulary and fitted record are applied as they are: "
        "these cells are new, and all of them for test; null: a corpus of its own",
    )
    cell_split: CellSplit = Field(CellSplit(), description="of atlases: train, val and test")
    vocabulary: Vocabulary = Field(Vocabulary(), description="build_vocabulary")
    filters: Filters = Field(Filters(), description="which cells enter")
    fit: Fit = Field(Fit(), description="fit_preprocessing")
    store: CellStore = Field(CellStore(), description="prepare_cells")

    def fitting(self) -> "Fitting":
        return Fitting(cell_split=self.cell_split, filters=self.filters, fit=self.fit)

    @model_validator(mode="after")
    def _some_cells(self):
        if not self.datasets and not self.atlases:
            raise ValueError("expected at least one name in datasets or atlases")
        return self

    @model_validator(mode="after")
    def _nothing_fitted_twice(self):
        own = [
            name
            for name in ("split", "cell_split", "vocabulary", "filters", "fit")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.like and own:
            raise ValueError(
                f"like is {self.like!r}, which decides on {', '.join(own)}; leave these out"
            )
        return self
