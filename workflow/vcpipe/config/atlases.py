"""atlases.<name>: cells without perturbations, of genes, peaks or both."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from vcpipe.config.section import Section

# Names of species become file names and keys: human, mouse, hsapiens.
Species = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]

# Columns of the table of cells that never come from obs_columns.
LABELS = {"cell", "dataset", "batch", "cell_type", "donor", "condition", "species", "split"}


class Matrix(Section):
    """Raw counts of one modality: one file, or many with the same or other cells and features."""

    paths: list[str] = Field(
        min_length=1,
        description="h5ad, h5mu (MuData), 10x .h5 or a folder with matrix.mtx; wildcards (*.h5ad) "
        "are sorted by name",
    )
    layer: str = Field("X", description="where the counts are: X, raw (raw.X), or a layer's name")
    name_key: str | None = Field(
        None, description="var column with the names of genes or peaks; null: the index of var"
    )


class Census(Section):
    """A query of the CELLxGENE Census (fetch_census); the census's words."""

    organism: str = Field("Homo sapiens", description="Homo sapiens or Mus musculus")
    census_version: str = Field(
        "stable", description="a release date such as 2025-01-30, stable or latest"
    )
    uri: str | None = Field(None, description="a census of your own; null: the public one")
    obs_value_filter: str | None = Field(None, description="which cells, as SOMA writes it")
    var_value_filter: str | None = Field(None, description="which genes, as SOMA writes it")
    filters: dict[str, Any] = Field(
        {},
        description="which cells, as column: value or column: [values]; not both this and "
        "obs_value_filter",
    )
    obs_columns: list[str] = Field([], description="obs columns to keep beside those named above")

    @model_validator(mode="after")
    def _one_filter(self):
        if self.filters and self.obs_value_filter:
            raise ValueError("filters and obs_value_filter both say which cells; give one of them")
        return self


class Artifact(Section):
    """An h5ad that LaminDB tracks (fetch_artifact)."""

    instance: str = Field(description="account/instance, or the folder of a local instance")
    key: str = Field(description="the artifact's key or uid")


class Atlas(Section):
    """Exactly one of rna/atac (files), census, artifact says where the cells come from."""

    rna: Matrix | None = Field(None, description="counts of genes")
    atac: Matrix | None = Field(None, description="counts of peaks of the same cells, or alone")
    census: Census | None = Field(None, description="cells of the CELLxGENE Census")
    artifact: Artifact | None = Field(None, description="an h5ad in LaminDB")
    species: Species = Field("human", description="whose genes these are")
    orthologs: str | None = Field(
        None,
        description="CSV without a header, to,from: genes of this atlas (from) are called by those "
        "of another species (to); null: names stay",
    )
    ortholog_species: Species = Field(
        "human", description="the species of the names that orthologs gives"
    )
    batch_key: str | None = Field(None, description="obs column with the batch; null: the dataset")
    cell_type_key: str | None = Field(None, description="obs column with the cell type; null: none")
    donor_key: str | None = Field(None, description="obs column with the donor; null: none")
    obs_columns: list[str] = Field([], description="other obs columns to keep in the store")
    repeated_cells: Literal["error", "prefix"] = Field(
        "error",
        description="cells' names in several files: stop, or put the file's name first",
    )
    repeated_features: Literal["error", "sum"] = Field(
        "error", description="names of genes that stand twice in a file: stop, or add their counts"
    )

    @model_validator(mode="after")
    def _consistent(self):
        given = {
            "rna or atac": self.rna is not None or self.atac is not None,
            "census": self.census is not None,
            "artifact": self.artifact is not None,
        }
        if sum(given.values()) != 1:
            named = [key for key, is_given in given.items() if is_given]
            raise ValueError(
                f"the cells come from {' and '.join(named) or 'nowhere'}; expected exactly one of "
                "rna and atac (files), census, artifact"
            )
        if self.orthologs and self.rna is None and self.atac is not None:
            raise ValueError("orthologs rename genes, and this atlas has peaks only")
        if self.orthologs and self.species == self.ortholog_species:
            raise ValueError(
                f"orthologs are of another species, but species and ortholog_species are both "
                f"{self.species}; set species to that of the files"
            )
        taken = sorted(set(self.obs_columns) & LABELS)
        if taken:
            raise ValueError(
                f"obs_columns names {', '.join(taken)}, which the store has of its own; set "
                "batch_key, cell_type_key or donor_key to it, or rename the column"
            )
        if len(set(self.obs_columns)) < len(self.obs_columns):
            raise ValueError("obs_columns names a column twice")
        return self
