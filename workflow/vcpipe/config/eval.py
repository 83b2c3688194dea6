"""eval: baselines, predictions, metrics and the summary."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.section import Section

Metric = Literal[
    "pearson",
    "pearson_delta",
    "pearson_delta_de",
    "pearson_delta_from_mean",
    "mse",
    "mse_de",
    "mae",
    "discrimination_l1",
]


class NoChange(Section):
    """A perturbed cell is a control cell."""


class TrainMean(Section):
    """Every perturbation does what the training perturbations do on average."""


class RidgePca(Section):
    """Ridge regression on principal components of genes (Ahlmann-Eltze et al. 2025)."""

    penalty: float = Field(0.1, gt=0, description="ridge penalty")
    num_components: int = Field(10, ge=1, description="principal components, at most")


class Baselines(Section):
    """Always fitted, always in the summary."""

    no_change: NoChange = Field(NoChange(), description="the control mean")
    train_mean: TrainMean = Field(TrainMean(), description="the mean of training perturbations")
    ridge_pca: RidgePca = Field(RidgePca(), description="linear in gene components")

    def only(self, name: str) -> "Baselines":
        """One baseline's settings, the others at their defaults: what its rule depends on."""
        return type(self)(**{name: getattr(self, name)})


class Prediction(Section):
    """Predicted cells of a split's evaluated perturbations, or of a list of targets."""

    num_cells: int = Field(
        100,
        ge=1,
        description="predicted cells per perturbation of a split, each from a control cell; "
        "lists have their own numbers",
    )
    genes_per_pass: Literal["chunks", "full"] = Field(
        "chunks",
        description="chunks: random parts of at most max_seq_len genes, the perturbed ones in "
        "each; full: all genes at once, more than training saw",
    )
    passes: int = Field(
        1, ge=1, description="genes_per_pass chunks: predictions averaged, each of other chunks"
    )
    unknown_targets: Literal["error", "no_change"] = Field(
        "error",
        description="listed targets that are no gene of the model: stop, or predict control cells",
    )
    counts: bool = Field(
        False, description="also draw raw counts of the predicted cells (layers['counts'])"
    )
    count_sampling: Literal["multinomial", "poisson"] = Field(
        "multinomial",
        description="counts: multinomial gives a cell exactly its library size, poisson on average",
    )
    library_sizes: Literal["controls", "listed"] = Field(
        "controls",
        description="counts: as many as the control cell has that a cell comes from; "
        "listed: these, scaled to the median_umi_per_cell of a list",
    )
    batch_size: int = Field(32, ge=1, description="cells per forward pass")
    seed: int = Field(0, ge=0, description="decides which control cells, which chunks, and counts")

    @model_validator(mode="after")
    def _settings_are_read(self):
        if self.genes_per_pass == "full" and self.passes > 1:
            raise ValueError(
                f"passes is {self.passes}, but with genes_per_pass full every pass is the same; "
                "expected 1, or genes_per_pass chunks"
            )
        for name in ("count_sampling", "library_sizes"):
            value = getattr(self, name)
            if not self.counts and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {value}, but counts is false; set counts: true")
        return self


class Verification(Section):
    """Whether the real scgpt predicts what we predict from the same folder."""

    num_conditions: int = Field(8, ge=1, description="perturbations to compare, at most")
    num_cells: int = Field(4, ge=1, description="control cells that each of them starts from")
    seed: int = Field(0, ge=0, description="decides which perturbations, cells and genes")
    tolerance: float = Field(1e-4, gt=0, description="largest difference that is no error")


class Scoring(Section):
    metrics: list[Metric] = Field(
        list(Metric.__args__), min_length=1, description="metrics of the summary"
    )
    num_de_genes: int = Field(
        20, ge=2, description="genes of the *_de metrics, from measured cells"
    )
    exclude_target: bool = Field(
        True, description="leave the perturbed gene out of its own scores: its fall is trivial"
    )


class Submission(Section):
    """A .vcc file of a list of targets, made by the Virtual Cell Challenge's own tool."""

    control_label: str = Field(
        "non-targeting", min_length=1, description="what the challenge calls control cells"
    )
    num_controls: int | None = Field(
        None, ge=1, description="control cells that are added, drawn at random; null: all"
    )
    max_cells: int = Field(
        100_000, ge=2, description="most cells, controls included: the challenge's rule"
    )
    seed: int = Field(0, ge=0, description="decides which control cells")


class Summary(Section):
    num_bootstrap: int = Field(1000, ge=100, description="resamples of the perturbations")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the interval")
    seed: int = Field(0, ge=0, description="decides the resamples")


class Embedding(Section):
    batch_size: int = Field(64, ge=1, description="cells per forward pass; changes no vector")
    max_genes: int | None = Field(
        None, ge=8, description="most tokens of a cell, <cls> included; null: as in pretraining"
    )
    min_gene_match: float = Field(
        0.5,
        gt=0,
        le=1,
        description="least share of a file's genes, or peaks, that the model's vocabulary holds",
    )
    keep_counts: bool = Field(False, description="copy the counts and genes of an h5ad, too")


class EmbeddingPlot(Section):
    color_by: list[str] = Field(
        [], description="obs columns to colour by; none: all with 2 to 24 values that are text"
    )
    method: Literal["umap", "pca"] = Field(
        "umap",
        description="UMAP, or the first two principal components: distances as they are, at once",
    )
    num_cells: int = Field(20_000, ge=4, description="most cells that are drawn, at random")
    num_neighbors: int = Field(15, ge=2, description="UMAP: cells that each cell is tied to")
    min_dist: float = Field(0.5, ge=0, le=1, description="UMAP: how close points may lie")
    seed: int = Field(0, ge=0, description="decides which cells, and the picture")

    @model_validator(mode="after")
    def _every_key_acts(self):
        for key in ("num_neighbors", "min_dist"):
            value = getattr(self, key)
            if self.method != "umap" and value != type(self).model_fields[key].default:
                raise ValueError(f"{key} is {value} and method is pca; it is of umap. Leave it out")
        return self


class Eval(Section):
    baselines: Baselines = Field(Baselines(), description="fit_baseline")
    prediction: Prediction = Field(Prediction(), description="predict_perturbations")
    verification: Verification = Field(Verification(), description="predict_samples, verify_scgpt")
    scoring: Scoring = Field(Scoring(), description="score_perturbations")
    submission: Submission = Field(Submission(), description="package_submission")
    summary: Summary = Field(Summary(), description="summarise")
    embedding: Embedding = Field(Embedding(), description="embed_cells")
    embedding_plot: EmbeddingPlot = Field(EmbeddingPlot(), description="plot_embeddings")
