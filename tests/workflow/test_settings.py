"""Every key has a reader: the whole chain is run in this process, and reads are written down."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts import (
    build_cell_graphs,
    build_vocabulary,
    check_corpus,
    check_dataset,
    convert_to_gears,
    embed_cells,
    finetune_perturbation,
    fit_baseline,
    fit_preprocessing,
    loader_experiment,
    match_genes,
    pair_controls,
    plot_embeddings,
    predict_perturbations,
    predict_samples,
    prepare_cells,
    pretrain,
    score_perturbations,
    shuffle_plates,
    simulate_atlas,
    simulate_plates,
    simulate_screen,
    split_perturbations,
    summarise,
)
from tests.workflow.tiny_atlas import GENES, HUMAN, write_atlas
from vcpipe.config.atlases import Artifact, Census
from vcpipe.config.corpora import Tokenizers
from vcpipe.config.datasets import Download
from vcpipe.config.documentation import nested_section
from vcpipe.config.eval import Prediction, Submission
from vcpipe.config.finetune import FolderSha256
from vcpipe.config.loader import Loader, Strategies
from vcpipe.config.pipeline import Pipeline
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.reading import PROJECT, merge, read_pipeline, read_yaml, settings
from vcpipe.config.section import Section
from vcpipe.config.tokens import Tokenizer
from vcpipe.config.training import Scheduler
from vcpipe.config.vocabulary import SpecialTokens
from vcpipe.data.cell_store.reading import open_store
from vcpipe.data.corpus_names import read_names
from vcpipe.data.draws import Draw
from vcpipe.data.preprocessing_record import read_record
from vcpipe.data.tokens.asked_genes import genes_to_ask
from vcpipe.data.tokens.fitted import fitted_of
from vcpipe.data.tokens.gene_embedding import check_embedding_dim
from vcpipe.data.tokens.masking import hidden_genes
from vcpipe.data.tokens.packing import Tokens, specials
from vcpipe.data.tokens.paired_peaks import Chromosomes, PairedBatch, paired_batch
from vcpipe.data.tokens.tokenize import tokenize
from vcpipe.data.tokens.truncation import measured_by
from vcpipe.training.optimisers import learning_rate

ARMS = ("StreamingArm", "BufferedArm", "BlockArm", "CellArm", "FullShuffleArm")
# Read by the rules, which are no Python that can be watched; their text shows it.
BY_RULES = {
    ("Pipeline", "schema_version"),  # its only value is checked by the model
    *(("Corpus", name) for name in ("datasets", "atlases", "split", "like")),
    *(("Atlas", name) for name in ("census", "artifact", "simulate")),
    *(("Finetune", name) for name in ("dataset", "split", "pretrained")),
    # Runs are made of them before a rule sees one: tests/config/test_pipeline.py.
    ("Finetune", "random_init_twin"),
    *(("TargetList", name) for name in ("path", "split", "genes")),
    ("Pretrain", "corpus"),
    *(("Dataset", name) for name in ("path", "download", "simulate", "effect")),
    # Read through SpecialTokens.names(): tests/data/test_vocabulary_building.py.
    ("SpecialTokens", "others"),
    # Read only where a perturbation is small: tests/data/test_conditions.py.
    ("Dataset", "small_perturbations"),
    # Read only where a cell type has an underscore: tests/data/test_conditions.py.
    ("Dataset", "unsafe_cell_types"),
    ("Verification", "tolerance"),
    # Decides which rules there are.
    ("Pipeline", "loader"),
}
# Read through Loader.loading(), fitting() and backend_of(): tests/config/test_loader.py.
THROUGH_LOADER = {
    *(("LoaderTraining", name) for name in ("num_epochs", "learning_rate")),
    ("Weights", "min_count_baseline"),
    ("Loader", "weights"),
    ("Loader", "backend"),
    *(("Strategies", name) for name in Strategies.model_fields),
    *((arm, "enabled") for arm in ARMS),
    *((arm, "shuffle") for arm in ("StreamingArm", "BufferedArm")),
    *((arm, "block_size") for arm in ("BlockArm", "CellArm", "FullShuffleArm")),
    # Snakemake names the folder; the model refuses all other values.
    ("Output", "save_dir"),
}
# Read through MaskedAutoencoder.decoder_size(): tests/models/test_masked_autoencoder.py.
THROUGH_SIZE = {("MaskedAutoencoder", name) for name in ("decoder_dim", "decoder_heads")}


def all_fields(section: type[Section]) -> set[tuple[str, str]]:
    found = set()
    for name, field in section.model_fields.items():
        found.add((section.__name__, name))
        nested = nested_section(field.annotation)
        found |= all_fields(nested) if nested else set()
    return found


@pytest.fixture
def reads(monkeypatch) -> set[tuple[str, str]]:
    """(section, key) of every setting that code outside vcpipe/config reads while this is on."""
    seen = set()
    inherited = Section.__getattribute__

    def watched(self, name):
        if name in type(self).model_fields:
            caller = sys._getframe(1).f_code.co_filename
            if "vcpipe/config" not in caller and "pydantic" not in caller:
                seen.add((type(self).__name__, name))
        return inherited(self, name)

    monkeypatch.setattr(Section, "__getattribute__", watched)
    return seen


class Chain:
    """The scripts, one after the other, as the rules call them."""

    def __init__(self, folder: Path, changes: dict):
        values = merge(read_yaml(PROJECT / "tests/workflow/config.yaml"), changes)
        self.folder, self.pipeline = folder, read_pipeline(values=values)[0]
        self.screen = folder / "screen.h5ad"
        self.cells = folder / "perturb_processed.h5ad"
        self.split, self.controls = folder / "split.tsv", folder / "controls.tsv"
        self.pairs = folder / "pairs.npz"

    def step(self, main, config: Section | None, **options) -> None:
        arguments = []
        for name, value in options.items():
            arguments += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        main([*arguments, *(["--config", settings(config)] if config else [])])

    def split_perturbations(self) -> None:
        self.step(
            split_perturbations.main,
            next(iter(self.pipeline.splits.values())),
            cells=self.cells,
            table=self.split,
            pickle=self.folder / "split.pkl",
            subgroup=self.folder / "subgroup.pkl",
        )

    def prepare(self, corpus: str, runs: dict, cells: dict) -> None:
        """From names to the checked store, in self.folder."""
        its, folder = self.pipeline.preprocess[corpus], self.folder
        sources = {key: cells[key] for key in ("screens", "atlases") if key in cells}
        names = {"vocabulary": folder / "vocabulary"}
        self.step(build_vocabulary.main, its.vocabulary, **sources, out=folder / "vocabulary")
        self.step(fit_preprocessing.main, its.fitting(), **cells, **names, out=folder / "fitted")
        made = names | {"fitted": folder / "fitted"}
        self.step(prepare_cells.main, its.store, **cells, **made, out=folder / "store")
        self.step(
            check_corpus.main,
            Tokenizers(runs={name: run.tokenizer for name, run in runs.items()}),
            fitted=folder / "fitted",
            store=folder / "store",
            out=folder / "corpus",
        )

    def start_from_weights(self) -> None:
        folder, start = self.folder, {"pretrained": str(self.folder / "pretrained")}
        self.step(
            pretrain.main,
            self.pipeline.pretrain["tiny_masked"].model_copy(update=start),
            store=folder / "store",
            vocabulary=folder / "vocabulary",
            fitted=folder / "fitted",
            out=folder / "continued",
            metrics=folder / "continued.csv",
            state=folder / "state",
        )

    def predict_list(self) -> None:
        """Counts, and targets that are unknown, are of lists only."""
        targets = self.folder / "list.csv"
        targets.write_text("target_gene,n_cells,median_umi_per_cell\nNOGENE,3,900\n")
        settings = {"counts": True, "library_sizes": "listed", "unknown_targets": "no_change"}
        self.step(
            predict_perturbations.main,
            Prediction(**settings),
            cells=self.cells,
            split=self.split,
            controls=self.controls,
            model=self.folder / "finetuned",
            targets=targets,
            name="tiny_model",
            out=self.folder / "listed.h5ad",
        )

    def embed(self) -> None:
        folder, out = self.folder, self.folder / "embedded.h5ad"
        embedding, plot = self.pipeline.eval.embedding, self.pipeline.eval.embedding_plot
        self.step(
            *(embed_cells.main, embedding), model=folder / "pretrained", cells=self.screen, out=out
        )
        self.step(plot_embeddings.main, plot, embeddings=out, out=folder / "embeddings")

    def run(self) -> None:
        pipeline, folder = self.pipeline, self.folder
        held_out = {"cells": self.cells, "split": self.split, "controls": self.controls}
        training = {"state": folder / "state"}
        dataset = pipeline.datasets["tiny"]
        self.step(
            simulate_screen.main,
            dataset.simulate,
            out=self.screen,
            truth=folder / "truth.h5ad",
            network=folder / "network.tsv",
        )
        conversion = convert_to_gears.Conversion(
            dataset=dataset.columns(), normalisation=pipeline.gears.normalisation
        )
        self.step(
            convert_to_gears.main,
            conversion,
            cells=self.screen,
            name="tiny",
            out=self.cells,
            report=folder / "conversion.json",
        )
        self.step(
            pair_controls.main,
            pipeline.gears.pairing,
            cells=self.cells,
            controls=self.controls,
            pairs=self.pairs,
        )
        self.step(
            build_cell_graphs.main,
            pipeline.gears.cell_graphs,
            cells=self.cells,
            pairs=self.pairs,
            out=folder / "cell_graphs.pkl",
        )
        self.step(
            check_dataset.main,
            check_dataset.Checked(effect=dataset.effect, thresholds=pipeline.checks),
            cells=self.cells,
            out=folder / "checks",
        )
        self.split_perturbations()
        screens = {"screens": self.cells, "split": self.split, "controls": self.controls}
        self.prepare("tiny", self.pipeline.pretrain, screens)
        self.step(
            pretrain.main,
            pipeline.pretrain["tiny_masked"],
            store=folder / "store",
            vocabulary=folder / "vocabulary",
            fitted=folder / "fitted",
            out=folder / "pretrained",
            metrics=folder / "pretrain.csv",
            **training,
        )
        self.start_from_weights()
        self.embed()
        self.step(
            finetune_perturbation.main,
            pipeline.finetune["tiny_model"],
            **held_out,
            pairs=self.pairs,
            pretrained=folder / "pretrained",
            out=folder / "finetuned",
            metrics=folder / "finetune.csv",
            **training,
        )
        self.step(
            predict_samples.main,
            pipeline.eval.verification,
            **held_out,
            checkpoint=folder / "finetuned",
            out=folder / "samples.npz",
        )
        self.step(
            match_genes.main,
            pipeline.finetune["tiny_model"].perturbation.gene_matching(),
            cells=self.cells,
            vocabulary=folder / "vocabulary/vocab.json",
            run="tiny_model",
            out=folder / "genes_tiny_model.tsv",
            summary=folder / "matches.tsv",
        )
        models = {"tiny_model": folder / "finetuned"}
        for name in type(pipeline.eval.baselines).model_fields:
            models[name] = folder / f"{name}.npz"
            self.step(
                fit_baseline.main,
                pipeline.eval.baselines,
                **held_out,
                baseline=name,
                out=models[name],
            )
        for name, model in models.items():
            predictions, scores = folder / f"{name}.h5ad", folder / "scores" / name
            self.step(
                predict_perturbations.main,
                pipeline.eval.prediction,
                **held_out,
                model=model,
                name=name,
                out=predictions,
            )
            self.step(
                score_perturbations.main,
                pipeline.eval.scoring,
                **held_out,
                predictions=predictions,
                out=scores,
            )
        self.step(
            summarise.main,
            pipeline.eval.summary,
            scores=[folder / "scores" / name for name in models],
            checks=folder / "checks",
            checked=folder / "data_checks.tsv",
            out=folder / "summary.csv",
            verdicts=folder / "verdicts.tsv",
            table=folder / "summary.html",
            losses=folder / "loss_curves.svg",
            figures=folder / "figures",
            matches=folder / "matches.tsv",
            genes=folder / "gene_matches.tsv",
        )


class AtlasChain(Chain):
    """The same of RNA and ATAC in files; every way to make tokens of them follows."""

    def __init__(self, folder: Path, changes: dict):
        write_atlas(folder / "atlas")
        text = (PROJECT / "tests/workflow/atlas.yaml").read_text()
        config = folder / "atlas.yaml"
        config.write_text(text.replace("atlas/", f"{folder}/atlas/"))
        values = merge(read_yaml(config), changes)
        self.folder, self.pipeline = folder, read_pipeline(values=values)[0]

    def atlases(self) -> str:
        atlases = {name: its.model_dump(mode="json") for name, its in self.pipeline.atlases.items()}
        return json.dumps(atlases)

    def run(self) -> None:
        self.prepare("cells", self.pipeline.pretrain, {"atlases": self.atlases()})

    def build_vocabulary(self) -> None:
        config = self.pipeline.preprocess["cells"].vocabulary
        out = self.folder / "vocabulary"
        self.step(build_vocabulary.main, config, atlases=self.atlases(), out=out)

    def tokenize(self, **values) -> Tokens:
        """As a run with this tokenizer would."""
        config, folder = Tokenizer(**values), self.folder
        store, names = open_store(folder / "store"), read_names(folder / "vocabulary")
        fitted = fitted_of(read_record(folder / "fitted/record.json"), "human")
        special = specials(names.vocabularies.of("rna", "human").ids, SpecialTokens())
        rows = store.rows(np.arange(8))
        measured = measured_by([store.measured["rna"]["cells"]], np.zeros(8))
        hidden_genes(config.masking, special, store.measured["rna"]["cells"])
        return tokenize(rows, special, config, fitted, seed=0, epoch=0, measured=measured)

    def contrast(self) -> None:
        """Views on panels of a file and on random ones, of vectors that are given."""
        folder, genes = self.folder, HUMAN[:16]
        (folder / "panels/human").mkdir(parents=True)
        (folder / "panels/human/one.csv").write_text("\n".join(["Ensembl_ID", *genes]))
        panels = {"folder": str(folder / "panels"), "panel_selection": "mixed"}
        sizes = {"panel_min_genes": 4, "panel_size_min": 4, "panel_size_max": 10}
        learned = {"pretrained_embeddings": True, "use_learnable_embs_freq": 0.5}
        hiding = {"masking_rate": 0.2, "mlm_loss_weight": 1.0}
        run = Pretrain(
            corpus="cells",
            objective="contrastive",
            contrastive={"panels": panels | sizes, **learned, **hiding},
            model={"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16},
            training={"batch_size": 8, "max_epochs": 2},
        )
        self.step(
            pretrain.main,
            run,
            store=folder / "store",
            vocabulary=folder / "vocabulary",
            fitted=folder / "fitted",
            state=folder / "state",
            out=folder / "contrastive",
            metrics=folder / "contrastive.csv",
        )

    def pair(self, **values) -> PairedBatch:
        """Peaks of cells, and genes that are asked for."""
        config, folder = Tokenizer(strategy="paired_peaks", **values), self.folder
        store, names = open_store(folder / "store"), read_names(folder / "vocabulary").vocabularies
        rna, atac = (store.rows(np.arange(8), modality) for modality in ("rna", "atac"))
        chromosomes = Chromosomes(
            names.chromosome_ids("atac", "human"), names.chromosome_ids("rna", "human")
        )
        asked = genes_to_ask(store.measured["rna"], config, None)
        cls_id = names.of("atac", "human").ids["<cls>"]
        return paired_batch(
            *(rna, atac, rna.counts, measured_by(asked, np.zeros(8)), chromosomes, cls_id, config),
            *({}, Draw(0, 0)),
        )

    def learn_from_peaks(self, **values) -> None:
        """The values of genes, of the same store."""
        folder = self.folder
        config = Pretrain(
            corpus="cells",
            objective="peaks_to_genes",
            peaks_to_genes=values,
            tokenizer={"strategy": "paired_peaks", "n_bins": 5},
            model={"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16},
            training={"batch_size": 16, "max_epochs": 1},
        )
        self.step(
            pretrain.main,
            config,
            store=folder / "store",
            vocabulary=folder / "vocabulary",
            fitted=folder / "fitted",
            out=folder / "pretrained",
            metrics=folder / "pretrain.csv",
            state=folder / "state",
        )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_every_key_is_read_by_the_stage_it_belongs_to(reads, tmp_path, monkeypatch):
    # UMAP takes half a minute to compile; tests/plots/test_embeddings.py runs it.
    monkeypatch.setattr(
        "vcpipe.evaluation.projection.umap_of", lambda values, *_: np.asarray(values)[:, :2]
    )
    table = tmp_path / "custom.tsv"
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = Chain(
        tmp_path / "first", {"pretrain": {"tiny_masked": {"scheduler": {"name": "step"}}}}
    )
    first.run()
    first.predict_list()
    learn_from_genes(first)
    # Two perturbations of val, which a score of val perturbations compares.
    table.write_text(first.split.read_text().replace("+ctrl\ttrain\t", "+ctrl\tval\t", 1))
    # A few keys are read only where another has a certain value.
    second = Chain(
        tmp_path / "second",
        {
            "datasets": {"tiny": {"effect": "up"}},
            "splits": {"simulation_1_0.75": {"method": "custom", "path": str(table)}},
            "pretrain": {
                "tiny_masked": {
                    "masked_values": {"ecs_weight": 10, "cce_weight": 10, "gen_weight": 1}
                }
            },
            "finetune": {
                "tiny_model": {
                    "lora": {"rank": 2},
                    "training": {"early_stopping": {"monitor": "val_delta_pearson"}},
                }
            },
            "preprocess": {
                "tiny": {"vocabulary": {"genes": str(tmp_path / "first/vocabulary/vocab.json")}}
            },
        },
    )
    second.run()
    # Settings of a split that other methods refuse: the tables are made, the later stages are not.
    targets = sorted(line.split()[0] for line in table.read_text().splitlines()[1:])
    lists = {"test_list": tmp_path / "test.txt", "val_list": tmp_path / "val.txt"}
    for path, target in zip(lists.values(), targets, strict=False):
        path.write_text(f"{target}\nNOSUCHGENE{path.stem}\n")
    no_val = {"training": {"early_stopping": {"monitor": "train_loss"}}}
    for changes in (
        {"method": "k_fold", "num_folds": 3},
        {"method": "single", "combo_single_split_test_set_fraction": 0.3},
        {"method": "held_out_context", "context_key": "batch", "test_contexts": ["batch_1"]},
        {"method": "published", "absent_targets": "ignore"}
        | {key: str(path) for key, path in lists.items()},
    ):
        values = {
            "splits": {"simulation_1_0.75": changes},
            "gears": {"pairing": {"within": "batch"}},
            "finetune": {"tiny_model": no_val},
        }
        Chain(tmp_path / "first", values).split_perturbations()

    simulated = ["num_cells=20", "num_genes=20", "num_peaks=40"]
    simulate_atlas.main([f"--out={tmp_path}/simulated", *simulated])
    read_an_atlas(tmp_path)
    compare_loading(tmp_path / "loading")
    downloads = {("Download", name) for name in Download.model_fields}  # tests/data/test_download
    # Both run in envs of their own: tests/upstream/test_census.py and test_artifacts.py.
    elsewhere = {(its.__name__, name) for its in (Census, Artifact) for name in its.model_fields}
    # Its tool is in an env of its own: tests/evaluation/test_submission.py.
    elsewhere |= {("Submission", name) for name in Submission.model_fields}
    # Read through FolderSha256.by_file(): tests/training/test_checkpoints.py.
    elsewhere |= {("FolderSha256", name) for name in FolderSha256.model_fields}
    # Of a package that is not installed here: tests/training/test_loggers.py.
    elsewhere |= {("Training", "wandb_project"), ("Training", "wandb_mode")}
    for name in ("linear", "cosine_restarts"):
        learning_rate(Scheduler(name=name), 0.1, 80, 16, num_updates=90, updates_per_epoch=5)
    expected = (
        all_fields(Pipeline) - BY_RULES - THROUGH_LOADER - THROUGH_SIZE - downloads - elsewhere
    )
    # The conversion is handed the Columns of a Dataset.
    found = reads | {("Dataset", name) for section, name in reads if section == "Columns"}
    # fit_preprocessing is handed the Fitting of a Corpus.
    found |= {("Corpus", name) for section, name in reads if section == "Fitting"}
    sections = {"Pipeline", "Gears", "Eval", "Baselines"}  # only their parts are handed on
    missing = {(section, name) for section, name in expected - found if section not in sections}
    assert not missing


def learn_from_genes(chain: Chain) -> None:
    """The same store, learned from by the other objectives."""
    base = chain.pipeline.pretrain["tiny_masked"].model_dump() | {"masked_values": {}}
    bins = {"strategy": "binned_expression", "n_bins": 51, "max_genes": 32}
    for objective, tokenizer in (
        ("masked_genes", {"strategy": "rank_value", "max_genes": 32}),
        ("next_genes", bins),
        ("masked_autoencoder", bins),
    ):
        config = Pretrain.model_validate(base | {"objective": objective, "tokenizer": tokenizer})
        folder = chain.folder
        chain.step(
            pretrain.main,
            config,
            store=folder / "store",
            vocabulary=folder / "vocabulary",
            fitted=folder / "fitted",
            out=folder / objective,
            metrics=folder / f"{objective}.csv",
            state=folder / "state",
        )


def compare_loading(folder: Path) -> None:
    """One strategy on simulated plates, which are then called the user's own."""
    simulated = {"num_plates": 3, "cells_per_plate": 60, "num_moas": 4}
    sets = {"train_plates": [1], "val_plates": [2], "test_plates": [3]}
    training = {"seeds": [0], "batch_size": 16}
    config = Loader(data={"simulate": simulated, **sets}, training=training)
    plates, out = folder / "plates", folder / "weighted"
    simulate_plates.main(["--config", settings(config.data.simulate), "--out", str(plates)])
    shuffle_plates.main(
        [
            *("--config", settings(config.training_cells()), "--plates", str(plates)),
            *("--out", str(folder / "store")),
        ]
    )
    own = Loader(data={"h5ad_dir": str(plates), **sets}, training=training)
    loader_experiment.main(
        ["--strategy", "block_weighted", "--config", settings(own), "--out", str(out)]
    )


def read_an_atlas(folder: Path) -> None:
    """Keys that no screen needs, and those that later objectives read."""
    (folder / "atlas").mkdir()
    vectors = folder / "vectors.csv"
    vectors.write_text("".join(f"{gene},0.5,{place}\n" for place, gene in enumerate(HUMAN)))
    named = {"vocabulary": {"gene_embeddings": {"human": str(vectors)}}}
    chain = AtlasChain(folder / "atlas", {"preprocess": {"cells": named}})
    chain.run()
    chain.contrast()
    for values in (
        {"strategy": "rank_value", "rank_normalization": "gene_median"},
        {"strategy": "binned_expression", "binning_method": "uniform", "include_zero_genes": 0.2},
    ):
        assert len(chain.tokenize(max_genes=16, **values)) == 8
    assert len(chain.pair(atac_max_len=8, rna_max_len=8)) == 8
    chain.learn_from_peaks(
        mvc_arch_style="inner product", encoder="performer", use_batch_labels=True
    )
    chain.learn_from_peaks(value_head="zero_inflated", task_weight={"cell_type": 1.0})
    # Without orthologs genes are those of the files' species; a given vocabulary may lack some.
    (folder / "mouse").mkdir()
    genes = folder / "mouse/vocab.json"
    names = ["<cls>", "<pad>", *GENES[1:]]
    genes.write_text(json.dumps({name: number for number, name in enumerate(names)}))
    of_mouse = {
        "atlases": {"cells": {"orthologs": None}},
        "preprocess": {"cells": {"vocabulary": {"gene_chromosomes": None, "genes": str(genes)}}},
    }
    AtlasChain(folder / "mouse", of_mouse).build_vocabulary()
    gene_embedding = Tokenizer(strategy="gene_embedding", embedding_dim=4)
    check_embedding_dim(gene_embedding.embedding_dim, 4, "vectors.npy")
