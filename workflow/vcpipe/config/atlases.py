"""atlases.<name>: cells without perturbations, of genes, peaks or both."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from vcpipe.config.section import Section
from vcpipe.config.value_filter import columns_of, filter_text, refuse_other_values

# Names of species become file names and keys: human, mouse, hsapiens.
Species = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
SPECIES_OF = {
    "Homo sapiens": ("human", "hsapiens", "homo_sapiens"),
    "Mus musculus": ("mouse", "mmusculus", "mus_musculus"),
}

# Columns of the table of cells that never come from obs_columns.
LABELS = {
    *("cell", "dataset", "batch", "cell_type", "donor", "condition", "species", "split"),
    *("set", "key", "total_rna", "total_atac"),
}


# As many have room between one simulated gene and the next.
PEAKS_PER_GENE = 50


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

    organism: str = Field(
        "Homo sapiens", description="Homo sapiens, Mus musculus, or another of the census"
    )
    census_version: str = Field(
        "stable", description="a release date such as 2025-01-30, stable or latest"
    )
    uri: str | None = Field(
        None, description="a census of your own, folder or address; null: the public one"
    )
    obs_value_filter: str | None = Field(None, description="which cells, as SOMA writes it")
    var_value_filter: str | None = Field(None, description="which genes, as SOMA writes it")
    filters: dict[str, Any] = Field(
        {},
        description="which cells, as column: value or column: [values]; not both this and "
        "obs_value_filter",
    )
    obs_columns: list[str] = Field([], description="obs columns to keep beside those named above")

    @field_validator("census_version", mode="before")
    @classmethod
    def _date_as_text(cls, value):
        # YAML reads 2025-01-30 as a date.
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("obs_value_filter", "var_value_filter")
    @classmethod
    def _is_a_condition(cls, value: str | None) -> str | None:
        if value is not None:
            columns_of(value)
        return value

    @model_validator(mode="after")
    def _one_filter_of_cells(self):
        if self.filters and self.obs_value_filter is not None:
            raise ValueError(
                "filters and obs_value_filter are both set; expected one of them "
                f"(filters say {filter_text(self.filters)})"
            )
        refuse_other_values(self.filters)
        return self

    def cell_filter(self) -> str | None:
        """Which cells, as SOMA writes it; null: all."""
        return self.obs_value_filter or filter_text(self.filters) or None

    def columns(self) -> list[str]:
        """The obs columns that are kept: those of the filter, and those asked for."""
        named = columns_of(self.cell_filter()) if self.cell_filter() else []
        return list(dict.fromkeys([*named, *self.obs_columns]))

    def keeping(self, columns: list[str | None]) -> "Census":
        """The same query with more columns: the keys that an atlas names, where they are set."""
        more = [column for column in columns if column and column not in self.obs_columns]
        return self.model_copy(update={"obs_columns": [*self.obs_columns, *dict.fromkeys(more)]})


class Artifact(Section):
    """An h5ad that LaminDB tracks (fetch_artifact)."""

    instance: str = Field(description="account/instance, or the folder of a local instance")
    key: str = Field(description="the artifact's key or uid")
    version: str | None = Field(
        None, description="one of its versions, by tag or uid; null: the latest"
    )
    layer: str = Field("X", description="where the counts are: X, raw (raw.X), or a layer's name")
    name_key: str | None = Field(
        None, description="var column with the names of genes; null: the index of var"
    )

    @field_validator("version", mode="before")
    @classmethod
    def _in_quotes(cls, value):
        # YAML makes 0 of 0000, which is what LaminDB calls a first version.
        if value is not None and not isinstance(value, str):
            raise ValueError("expected text; put it in quotes")
        return value


class SimulatedAtlas(Section):
    """Cells of several types, whose peaks follow the genes beside them (simulate_atlas)."""

    num_cells: int = Field(600, ge=20, description="cells")
    num_genes: int = Field(
        300, ge=20, description="genes; real symbols while they last, as the species spells them"
    )
    num_peaks: int = Field(
        800, ge=0, description="peaks, three quarters of them near a gene; 0: genes only"
    )
    num_chromosomes: int = Field(4, ge=1, le=22, description="chromosomes that genes lie on")
    num_cell_types: int = Field(6, ge=1, description="cell types; those of a seed have orthologs")
    num_batches: int = Field(3, ge=1, description="batches, each with its own effect on every gene")
    num_programs: int = Field(6, ge=1, description="gene programs, which move from cell to cell")
    type_strength: float = Field(
        1.0, ge=0, description="standard deviation of the log changes that mark a cell type"
    )
    program_variation: float = Field(
        0.5, ge=0, description="standard deviation of a program's log activity from cell to cell"
    )
    batch_strength: float = Field(
        0.1, ge=0, description="standard deviation of the log batch effect"
    )
    depth: float = Field(1000, gt=0, description="mean counts of genes per cell")
    peak_depth: float = Field(250, gt=0, description="mean counts of peaks per cell")
    dispersion: float = Field(
        0.15, gt=0, description="overdispersion of genes: variance = mean + this x mean^2"
    )
    seed: int = Field(
        7, ge=0, description="decides everything; atlases of one seed share cell types and programs"
    )

    @model_validator(mode="after")
    def _room_for_peaks(self):
        most = PEAKS_PER_GENE * self.num_genes
        if self.num_peaks > most:
            raise ValueError(
                f"num_peaks is {self.num_peaks}; expected at most {most}, {PEAKS_PER_GENE} for "
                "each gene; lower it, or raise num_genes"
            )
        return self


class Atlas(Section):
    """Exactly one of rna/atac (files), census, artifact, simulate says where cells come from."""

    rna: Matrix | None = Field(None, description="counts of genes")
    atac: Matrix | None = Field(None, description="counts of peaks of the same cells, or alone")
    census: Census | None = Field(None, description="cells of the CELLxGENE Census")
    artifact: Artifact | None = Field(None, description="an h5ad in LaminDB")
    simulate: SimulatedAtlas | None = Field(
        None, description="cells to be simulated (simulate_atlas), with batch and cell_type in obs"
    )
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

    def is_fetched(self) -> bool:
        """Whether a rule of ours writes the file."""
        return any((self.census, self.artifact, self.simulate))

    def has(self, modality: str) -> bool:
        """Whether its cells are measured by rna or atac."""
        if self.simulate:
            return modality == "rna" or self.simulate.num_peaks > 0
        return getattr(self, modality) is not None or (modality == "rna" and self.is_fetched())

    def in_file(self, fetched: str) -> "Atlas":
        """The same atlas where its cells have been fetched: a file, of simulated ones a folder."""
        if not self.is_fetched():
            return self
        changes = {"census": None, "artifact": None, "simulate": None}
        if self.simulate:
            for modality in ("rna", "atac"):
                if self.has(modality):
                    changes[modality] = Matrix(paths=[f"{fetched}/{modality}.h5ad"])
        elif self.census:
            changes["rna"] = Matrix(paths=[fetched], name_key="feature_name")
        else:
            its = self.artifact
            changes["rna"] = Matrix(paths=[fetched], layer=its.layer, name_key=its.name_key)
        return self.model_copy(update=changes)

    def only(self, modality: str) -> "Atlas":
        """The same cells measured by rna or atac alone, where there are files of it."""
        other = "atac" if modality == "rna" else "rna"
        is_there = getattr(self, modality) is not None
        return self.model_copy(update={other: None}) if is_there else self

    def paths(self) -> list[str]:
        """Files and wildcards as they are written."""
        return [path for part in (self.rna, self.atac) if part for path in part.paths]

    @model_validator(mode="after")
    def _consistent(self):
        given = {
            "rna or atac": self.rna is not None or self.atac is not None,
            "census": self.census is not None,
            "artifact": self.artifact is not None,
            "simulate": self.simulate is not None,
        }
        if sum(given.values()) != 1:
            named = [key for key, is_given in given.items() if is_given]
            raise ValueError(
                f"the cells come from {' and '.join(named) or 'nowhere'}; expected exactly one of "
                "rna and atac (files), census, artifact, simulate"
            )
        if self.orthologs and self.rna is None and self.atac is not None:
            raise ValueError("orthologs rename genes, and this atlas has peaks only")
        if self.orthologs and self.species == self.ortholog_species:
            raise ValueError(
                f"orthologs are of another species, but species and ortholog_species are both "
                f"{self.species}; set species to that of the files"
            )
        expected = SPECIES_OF.get(self.census.organism) if self.census else None
        if expected and self.species not in expected:
            raise ValueError(
                f"census.organism is {self.census.organism} and species is {self.species}; "
                f"expected {' or '.join(expected)}"
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
