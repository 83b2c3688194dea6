"""eval: baselines, predictions, metrics and the summary."""

from typing import Literal

from pydantic import Field

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
    num_cells: int = Field(
        100, ge=1, description="predicted cells per perturbation, each from a control cell"
    )
    batch_size: int = Field(32, ge=1, description="cells per forward pass")
    seed: int = Field(0, ge=0, description="decides which control cells")


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


class Summary(Section):
    num_bootstrap: int = Field(1000, ge=100, description="resamples of the perturbations")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the interval")
    seed: int = Field(0, ge=0, description="decides the resamples")


class Eval(Section):
    baselines: Baselines = Field(Baselines(), description="fit_baseline")
    prediction: Prediction = Field(Prediction(), description="predict_perturbations")
    scoring: Scoring = Field(Scoring(), description="score_perturbations")
    summary: Summary = Field(Summary(), description="summarise")
