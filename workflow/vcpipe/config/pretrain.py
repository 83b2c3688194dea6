"""pretrain.<run>: self-supervised training on a corpus."""

from typing import Literal

from pydantic import Field, model_validator

from vcpipe.config.loading import Loading
from vcpipe.config.model import Transformer
from vcpipe.config.objectives.contrastive import Contrastive
from vcpipe.config.objectives.masked_autoencoder import MaskedAutoencoder
from vcpipe.config.objectives.masked_genes import MaskedGenes
from vcpipe.config.objectives.masked_values import MaskedValues
from vcpipe.config.objectives.next_genes import NextGenes
from vcpipe.config.objectives.peaks_to_genes import PeaksToGenes
from vcpipe.config.section import Name, Section
from vcpipe.config.tokens import Tokenizer
from vcpipe.config.training import Optimizer, Scheduler, Training


class Pretrain(Section):
    corpus: Name = Field(description="a name in preprocess")
    objective: Literal[
        "masked_values",
        "masked_genes",
        "next_genes",
        "masked_autoencoder",
        "contrastive",
        "peaks_to_genes",
    ] = Field("masked_values", description="what is learned")
    masked_values: MaskedValues = Field(MaskedValues(), description="its settings")
    masked_genes: MaskedGenes = Field(MaskedGenes(), description="its settings")
    next_genes: NextGenes = Field(NextGenes(), description="its settings")
    masked_autoencoder: MaskedAutoencoder = Field(MaskedAutoencoder(), description="its settings")
    contrastive: Contrastive = Field(Contrastive(), description="its settings")
    peaks_to_genes: PeaksToGenes = Field(PeaksToGenes(), description="its settings")
    tokenizer: Tokenizer = Field(Tokenizer(), description="how a cell becomes a sequence")
    model: Transformer = Field(Transformer(), description="size of the encoder")
    pretrained: str | None = Field(
        None,
        description="folder of a run with the same objective and model to start from, such as "
        "results/pretrain/<run>/checkpoint; null: drawn weights",
    )
    pretrained_vocabulary: Literal["same", "remap"] = Field(
        "same",
        description="its genes are those of the corpus, or rows of its gene tables are found by "
        "name and genes that it lacks begin with drawn ones",
    )
    val_fraction: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="share of cells kept for val_loss where the corpus keeps none (cell_split.val):"
        " the last on disk, where they lie in random order",
    )
    loading: Loading = Field(Loading(), description="in which order cells are seen")
    optimizer: Optimizer = Field(Optimizer(), description="how weights move")
    scheduler: Scheduler = Field(Scheduler(), description="how the rate changes")
    training: Training = Field(Training(), description="the loop")

    @model_validator(mode="after")
    def _nothing_to_remap(self):
        if self.pretrained is None and self.pretrained_vocabulary != "same":
            raise ValueError(
                f"pretrained_vocabulary is {self.pretrained_vocabulary}, but pretrained is null, "
                "so nothing reads it; leave it out, or name a folder"
            )
        return self

    def files(self) -> list[str]:
        """What a run reads beside its corpus, with wildcards."""
        folder = self.contrastive.panels.folder
        return [f"{folder}/*/*.csv"] if self.objective == "contrastive" and folder else []
