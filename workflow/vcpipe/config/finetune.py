"""finetune.<run>: from a pretrained encoder to a model that predicts perturbed cells."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from vcpipe.config.adapting import Adapting
from vcpipe.config.loading import Loading
from vcpipe.config.section import Name, Section
from vcpipe.config.training import Optimizer, Scheduler, Training

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FolderSha256(Section):
    """What the three files of a folder must be, as `sha256sum` prints it."""

    best_model: Sha256 | None = Field(None, description="SHA-256 of best_model.pt; null: any")
    args: Sha256 | None = Field(None, description="SHA-256 of args.json; null: any")
    vocab: Sha256 | None = Field(None, description="SHA-256 of vocab.json; null: any")

    def by_file(self) -> dict[str, str]:
        files = {
            "best_model.pt": self.best_model,
            "args.json": self.args,
            "vocab.json": self.vocab,
        }
        return {name: sha256 for name, sha256 in files.items() if sha256 is not None}


class GeneMatching(Section):
    """How a screen's genes find their token in a checkpoint's vocabulary."""

    gene_aliases: bool = Field(
        True,
        description="match renamed genes too, by HGNC's previous symbols and Ensembl ids; "
        "false: exact names only",
    )


class Perturbation(GeneMatching):
    """Control cell and perturbation in, perturbed cell out (scGPT's TransformerGenerator)."""

    max_seq_len: int = Field(1536, ge=8, description="genes per step, drawn anew for each batch")
    always_sample_targets: bool = Field(
        True,
        description="always include the batch's perturbed genes (scGPT: by chance, 8.5 % on VCC)",
    )
    gene_sampling: Literal["seeded", "upstream"] = Field(
        "seeded",
        description="seeded: drawn for each batch by (seed, epoch, step); upstream: genes and "
        "cells in the order of scGPT's own loop, from one generator with training.seed",
    )
    unknown_genes: Literal["left_out", "pad"] = Field(
        "left_out",
        description="genes without a token: not shown to the model, or (as scGPT does) all of them "
        "shown as <pad>, learned from and predicted",
    )
    control_partners: Literal["redrawn", "paired_once"] = Field(
        "redrawn",
        description="redrawn: every epoch, each perturbed cell stands beside another control; "
        "paired_once: beside the one that pair_controls drew (as in GEARS)",
    )
    match_batch: bool = Field(
        True,
        description="redrawn partners are of the cell's own batch and cell type; false, or where "
        "that has no controls: of its cell type",
    )
    include_controls: bool = Field(
        True, description="learn from control cells too, each beside itself (as scGPT does)"
    )
    n_input_bins: int = Field(
        0,
        ge=0,
        le=256,
        description="the encoder gets the control's values in so many bins, at the quantiles of "
        "those above zero among the sampled genes (the checkpoint was pretrained on 51); the "
        "decoder and the target keep log values; 0: log values everywhere. As scGPT's n_input_bins",
    )
    data_on: Literal["auto", "device", "host"] = Field(
        "auto",
        description="where values of all cells lie: device: in the GPU's memory (on a CPU in this "
        "process's), batches are gathered there; host: on disk and in the system's cache; auto: "
        "device where they fit in half of a GPU's free memory. All give the same batches",
    )
    min_gene_match: float = Field(
        0.5,
        gt=0,
        le=1,
        description="least share of genes that the checkpoint's vocabulary must hold",
    )

    delta_weight: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="squared errors are weighted by 1 + this × how much the gene changes on "
        "average under the cell's perturbation, by the training cells and relative to other genes; "
        "0: all genes count the same (scGPT)",
    )
    val_cells: int = Field(
        32,
        ge=1,
        description="control cells from which val_delta_pearson and val_discrimination predict "
        "each val perturbation, where early_stopping monitors one of them",
    )

    @model_validator(mode="after")
    def _upstream_keeps_targets_by_chance(self):
        if self.gene_sampling == "upstream" and self.always_sample_targets:
            raise ValueError(
                "gene_sampling is upstream, where targets are among the genes by chance, and "
                "always_sample_targets is true; expected false"
            )
        return self

    @model_validator(mode="after")
    def _only_redrawn_partners_are_matched(self):
        if not self.match_batch and self.control_partners == "paired_once":
            raise ValueError(
                "match_batch is false, but control_partners is paired_once, where pair_controls "
                "has chosen; expected redrawn"
            )
        return self

    @field_validator("n_input_bins")
    @classmethod
    def _bins_have_edges(cls, number: int) -> int:
        if number in (1, 2):
            raise ValueError(f"{number} bins have no edges between them; expected 0, or 3 or more")
        return number

    def gene_matching(self) -> GeneMatching:
        """What match_genes reads of these settings."""
        return GeneMatching(gene_aliases=self.gene_aliases)


class Finetune(Adapting):
    dataset: Name = Field(description="a name in datasets")
    split: Name = Field(description="a name in splits")
    pretrained: str = Field(
        description="a name in pretrain, or a folder with best_model.pt, args.json, vocab.json"
    )
    pretrained_sha256: FolderSha256 | None = Field(
        None, description="what a folder's files must be, checked before they are read"
    )
    initial_weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: the same architecture and vocabulary, nothing loaded"
    )
    objective: Literal["perturbation"] = Field("perturbation", description="what is learned")
    perturbation: Perturbation = Field(Perturbation(), description="its settings")
    dropout: float = Field(0.0, ge=0, lt=1, description="replaces the checkpoint's (scGPT: 0)")
    loading: Loading = Field(Loading(), description="in which order cells are seen")
    optimizer: Optimizer = Field(Optimizer(), description="how weights move")
    scheduler: Scheduler = Field(Scheduler(), description="how the rate changes")
    training: Training = Field(Training(), description="the loop")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="train once with each training.seed, as <name>_seed<n>; <name> then is the "
        "mean of their predicted cells",
    )
    random_init_twin: bool = Field(
        False, description="train the same without pretrained weights, too, as <name>_random"
    )

    @model_validator(mode="after")
    def _seeds_differ(self):
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds are {self.seeds}; expected each of them once")
        return self

    @model_validator(mode="after")
    def _upstream_has_its_own_order(self):
        if self.perturbation.gene_sampling == "upstream" and self.loading != Loading():
            raise ValueError(
                "perturbation.gene_sampling is upstream, which decides the order of cells too, and "
                "loading says another; leave loading out"
            )
        return self

    @model_validator(mode="after")
    def _random_weights_are_trained(self):
        if self.initial_weights == "random" and self.random_init_twin:
            raise ValueError("random_init_twin is true, but initial_weights is random already")
        if (self.initial_weights == "random" or self.random_init_twin) and (
            self.lora is not None or self.freeze
        ):
            raise ValueError(
                "lora and freeze keep weights as they are, and random ones (initial_weights: "
                "random, random_init_twin) are not worth it; leave one of them out"
            )
        return self

    def runs(self, name: str) -> dict[str, "Finetune"]:
        """Every training that this asks for, by name."""
        one = self.model_copy(update={"seeds": [], "random_init_twin": False})
        found = {name: one}
        if self.random_init_twin:
            found[f"{name}_random"] = one.model_copy(update={"initial_weights": "random"})
        if not self.seeds:
            return found
        return {
            f"{its}_seed{seed}": run.model_copy(
                update={"training": run.training.model_copy(update={"seed": seed})}
            )
            for its, run in found.items()
            for seed in self.seeds
        }

    def ensembles(self, name: str) -> dict[str, list[str]]:
        """The names of runs whose predictions are averaged, by the name of their mean."""
        if not self.seeds:
            return {}
        names = [name, f"{name}_random"] if self.random_init_twin else [name]
        return {its: [f"{its}_seed{seed}" for seed in self.seeds] for its in names}
