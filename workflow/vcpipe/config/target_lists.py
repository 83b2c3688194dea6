"""target_lists.<name>: perturbations whose cells are predicted because somebody asks for them."""

from pydantic import Field

from vcpipe.config.section import Name, Section


class TargetList(Section):
    """Targets of a challenge, with the number of cells of each (VCC's pert_counts_*.csv)."""

    path: str = Field(
        description="CSV or TSV with columns target_gene, n_cells and, for library_sizes: listed, "
        "median_umi_per_cell"
    )
    split: Name = Field(description="a name in splits: its models and baselines predict the list")
    genes: str | None = Field(
        None,
        description="genes of a submission, one a line, in order (VCC's gene_names.csv); "
        "null: those of the screen",
    )

    def files(self) -> dict[str, str]:
        """The user's own files that predictions and submissions read, by their key."""
        return {key: getattr(self, key) for key in ("path", "genes") if getattr(self, key)}
