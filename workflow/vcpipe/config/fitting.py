"""preprocess.<corpus>: which cells are learned from, and what is fitted on them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section


class CellSplit(Section):
    """Cells of atlases for train, val and test; of screens the split of perturbations decides."""

    method: Literal["random", "stratified", "grouped"] = Field(
        "random", description="cells at random, of each label alike, or whole groups"
    )
    key: str | None = Field(
        None,
        description="label of stratified and grouped: batch, cell_type, donor, or an obs column",
    )
    val: float = Field(0.0, ge=0, lt=1, description="share of cells, or of groups, for validation")
    test: float = Field(0.0, ge=0, lt=1, description="share for tests")
    val_groups: list[str] = Field([], description="groups for validation, instead of a share")
    test_groups: list[str] = Field([], description="groups for tests, instead of a share")
    seed: int = Field(0, ge=0, description="decides what is drawn")

    def keeps_val(self) -> bool:
        return bool(self.val or self.val_groups)

    @model_validator(mode="after")
    def _consistent(self):
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val} and test {self.test} leave nothing for train")
        if (self.method == "random") != (self.key is None):
            raise ValueError(
                f"method is {self.method} and key is {self.key!r}; expected a key with "
                "stratified and grouped only"
            )
        if self.method != "grouped" and (self.val_groups or self.test_groups):
            raise ValueError("val_groups and test_groups need method grouped")
        for name in ("val", "test"):
            if getattr(self, name) and getattr(self, f"{name}_groups"):
                raise ValueError(f"{name} and {name}_groups are both set; expected one of them")
        both = sorted(set(self.val_groups) & set(self.test_groups))
        if both:
            raise ValueError(f"{', '.join(both)} are in val_groups and in test_groups")
        return self


class Filters(Section):
    """Thresholds on cells; those on genes and peaks are fitted on training cells, see Fit.

    Features of the vocabulary count, and a source without genes or peaks is not asked for them.
    """

    min_genes: int = Field(1, ge=0, description="least detected genes of a cell")
    min_counts: int = Field(0, ge=0, description="least counts of a cell's genes")
    min_peaks: int = Field(0, ge=0, description="least open peaks of a cell")


class Fit(Section):
    """What is learned from training cells and applied unchanged to all others."""

    min_cells: int = Field(
        0, ge=0, description="genes seen in fewer training cells are left out (0: keep all)"
    )
    min_gene_counts: int = Field(0, ge=0, description="the same by their counts")
    min_peak_cells: int = Field(
        0, ge=0, description="peaks open in fewer training cells are left out (0: keep all)"
    )
    normalize: Literal["library_size"] | None = Field(
        "library_size", description="counts of a cell scaled to target_sum, or left as they are"
    )
    target_sum: float = Field(1e4, gt=0, description="counts per cell after normalisation")
    log1p: bool = Field(True, description="log(1 + x) of them")
    hvg_selection: Annotated[int, Field(ge=1)] | str | None = Field(
        None,
        description="how many highly variable genes to choose, or a file whose first column names "
        "them (hvg.csv); null: none",
    )
    hvg_flavor: Literal["seurat_v3", "seurat", "cell_ranger"] = Field(
        "seurat_v3",
        description="scanpy's methods: seurat_v3 on counts, seurat on normalised counts, "
        "cell_ranger on log(1 + normalised counts)",
    )
    hvg_batch_key: str | None = Field(
        "batch",
        description="label: genes that vary within many of its groups, each within its dataset; "
        "null: over all cells",
    )
    hvg_only: bool = Field(False, description="keep only these genes in the store")
    num_bin_edges: int = Field(
        51,
        ge=3,
        description="quantiles of all non-zero training values that are kept for global binning",
    )

    @model_validator(mode="after")
    def _hvg_only_of_some(self):
        if self.hvg_only and self.hvg_selection is None:
            raise ValueError("hvg_only needs hvg_selection, the number of genes to keep")
        return self

    @model_validator(mode="after")
    def _nothing_in_vain(self):
        unread = {} if self.normalize else {"target_sum": "normalize"}
        if self.num_hvgs() is None:
            unread |= {"hvg_flavor": "hvg_selection", "hvg_batch_key": "hvg_selection"}
        for key, other in unread.items():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key} is {getattr(self, key)!r}, but {other} is {getattr(self, other)!r}, "
                    f"so nothing reads it; leave {key} out, or set {other}"
                )
        return self

    def num_hvgs(self) -> int | None:
        """How many are chosen from the cells."""
        return self.hvg_selection if isinstance(self.hvg_selection, int) else None

    def hvg_file(self) -> str | None:
        return self.hvg_selection if isinstance(self.hvg_selection, str) else None
