"""The configuration of EpiFoundation."""

from vcpipe.config.importing.keys import ATLAS, CORPUS, RUN, Imported, Key, Kind
from vcpipe.errors import InputError

STYLES = ("concat query", "sum query", "inner product", "gene-specific concat query")
INFLATED = ("train.model.use_zero_inflated", (True,))
COUNTS = (
    "counts must be raw, they are binned here; name the layer that holds them, or X, in "
    "atlases.<atlas>.<rna or atac>.layer"
)
SPECIAL = f"{CORPUS}vocabulary.special_tokens."

KEYS = {
    "task_name": Key("pretrain.<run>", "the run's name", in_finish=True),
    "train.local_rank": Key(None, "torchrun sets it"),
    "train.seed": Key(f"{RUN}training.seed", default=2002),
    "train.batch_size": Key(f"{RUN}training.batch_size", default=8),
    "train.lr": Key(f"{RUN}optimizer.lr", default=1e-4),
    "train.epochs": Key(f"{RUN}training.max_epochs", "in all, also after a resume", default=150),
    "train.gradient_accumulation_steps": Key(f"{RUN}training.gradient_accumulation", default=20),
    "train.amp": Key(
        f"{RUN}training.precision",
        "bf16, as its code has it",
        default=True,
        values={True: "bf16-mixed", False: "32"},
    ),
    "train.save_ckpt_freq": Key(
        f"{RUN}training.checkpoint_every_n_epochs", "to resume from; the best weights are kept"
    ),
    "train.resume": Key(None, "a run that is started again goes on where it was"),
    "train.model.encoder": Key(f"{RUN}peaks_to_genes.encoder", default="transformer"),
    "train.model.pretrained": Key(
        f"{RUN}pretrained",
        "a folder of pretrain is expected; without one a run begins with drawn weights",
        skip=(None,),
    ),
    "train.model.embedding_method": Key(
        None, "ids alone are embedded, as in its own code", only=("id_only",)
    ),
    "train.model.atac_max_len": Key(f"{RUN}tokenizer.atac_max_len", default=12000),
    "train.model.rna_max_len": Key(f"{RUN}tokenizer.rna_max_len", default=8000),
    "train.model.embedding_dim": Key(f"{RUN}model.hidden_dim", default=512),
    "train.model.num_layers": Key(f"{RUN}model.num_layers", default=6),
    "train.model.head_num": Key(f"{RUN}model.num_heads", default=8),
    "train.model.head_dim": Key(
        f"{RUN}model.ffn_dim",
        "the width of the feed-forward layer, as its code has it",
        default=1024,
    ),
    "train.model.dropout": Key(f"{RUN}model.dropout", default=0.15),
    "train.model.cell_emb_style": Key(
        f"{RUN}peaks_to_genes.cell_emb_style",
        values={"cls": "cls", "mean": "mean", "avg-pool": "mean"},
    ),
    "train.model.mvc_arch_style": Key(
        f"{RUN}peaks_to_genes.mvc_arch_style", values={style: style for style in STYLES}
    ),
    "train.model.use_batch_labels": Key(f"{RUN}peaks_to_genes.use_batch_labels", default=True),
    "train.model.use_chr_labels": Key(f"{RUN}peaks_to_genes.use_chr_labels", default=True),
    "train.model.use_zero_inflated": Key(
        f"{RUN}peaks_to_genes.value_head",
        "the head's name",
        values={True: "zero_inflated", False: "categorical"},
    ),
    "train.model.regression_max_value": Key(None, "values are not cut"),
    "train.model.zero_threshold": Key(None, "it is of evaluation, not of training"),
    "train.model.gene_specific_fp16": Key(None, "its code does not read it either"),
    "train.task_weight.cell_type": Key(f"{RUN}peaks_to_genes.task_weight.cell_type"),
    "train.task_weight.mvc": Key(f"{RUN}peaks_to_genes.task_weight.mvc"),
    "train.task_weight.zero_bce": Key(
        f"{RUN}peaks_to_genes.task_weight.zero_bce", read_if=INFLATED
    ),
    "train.task_weight.value_mse": Key(
        f"{RUN}peaks_to_genes.task_weight.value_mse", read_if=INFLATED
    ),
    "valid.freq": Key(f"{RUN}training.validate_every_n_epochs", default=2),
    "data.bin_num": Key(f"{RUN}tokenizer.n_bins", default=2),
    "data.append_cls": Key(None, "a cell begins with <cls>", only=(True,)),
    "data.train.atac_path": Key(f"{ATLAS}atac.paths", values=lambda path: [path]),
    "data.train.rna_path": Key(f"{ATLAS}rna.paths", values=lambda path: [path]),
    "data.test.atac_path": Key("atlases.<test>.atac.paths", values=lambda path: [path]),
    "data.test.rna_path": Key("atlases.<test>.rna.paths", values=lambda path: [path]),
    "data.train.atac_key": Key(f"{ATLAS}atac.layer", COUNTS, only=("X", "raw", "counts")),
    "data.train.rna_key": Key(f"{ATLAS}rna.layer", COUNTS, only=("X", "raw", "counts")),
    "data.test.atac_key": Key("atlases.<test>.atac.layer", COUNTS, only=("X", "raw", "counts")),
    "data.test.rna_key": Key("atlases.<test>.rna.layer", COUNTS, only=("X", "raw", "counts")),
    "vocab.rna_path": Key(f"{CORPUS}vocabulary.genes"),
    "vocab.atac_path": Key(f"{CORPUS}vocabulary.peaks"),
    "vocab.cell_type_path": Key(f"{CORPUS}vocabulary.cell_types"),
    "vocab.batch_path": Key(f"{CORPUS}vocabulary.batches"),
    "vocab.chr_path": Key(f"{CORPUS}vocabulary.chromosomes"),
    "vocab.gene2chr_path": Key(f"{CORPUS}vocabulary.gene_chromosomes"),
    "vocab.hvg_path": Key(f"{CORPUS}fit.hvg_selection", "no list is no key", skip=(None,)),
    **{
        f"vocab.special_tokens.{token}.{part}": Key(f"{SPECIAL}{token}.{part}")
        for token in ("pad", "mask", "cls")
        for part in ("token", "value")
    },
}


def finish(made: Imported, whole: dict) -> None:
    """What several keys decide together."""
    for part in ("train", "test"):
        paths = [bool(whole.get(f"data.{part}.{kind}_path")) for kind in ("rna", "atac")]
        if part == "train" and not all(paths):
            raise InputError("data.train has not both rna_path and atac_path; expected both.")
        if any(paths) and not all(paths):
            raise InputError(f"data.{part} has one of rna_path and atac_path; expected both.")
    if any(key.startswith("atlases.<test>.") for key in made.ours):
        _new_cells(made)
    binary = made.ours[f"{RUN}tokenizer.n_bins"] == 2
    made.ours[f"{RUN}tokenizer.binning_method"] = "binary" if binary else "quantile_per_cell"
    if f"{CORPUS}fit.hvg_selection" in made.ours:
        made.ours[f"{RUN}tokenizer.rna_sampling"] = "hvg"
        made.changed.append("vocab.hvg_path: cells are asked for these genes (rna_sampling: hvg)")
    if whole.get("train.model.encoder") == "performer":
        made.changed.append(
            "train.model.head_dim is the width of the feed-forward layer here also with the "
            "performer; heads are hidden_dim / num_heads wide"
        )
    epochs = made.ours[f"{RUN}training.max_epochs"]
    made.ours[f"{RUN}training.early_stopping.patience"] = epochs


def _new_cells(made: Imported) -> None:
    """Their test files are other cells: prepared alike, never learned from."""
    test = f"{made.run}_test"
    for key in [key for key in made.ours if key.startswith("atlases.<test>.")]:
        made.ours[key.replace("<test>", test)] = made.ours.pop(key)
    for name, value in (("batch_key", "batch"), ("cell_type_key", "annot")):
        made.ours[f"atlases.{test}.{name}"] = value
    made.ours |= {f"preprocess.{test}.atlases": [test], f"preprocess.{test}.like": made.run}
    made.changed.append(
        f"data.test: preprocess.{test}, new cells to embed and score; val_loss is of "
        "pretrain.<run>.val_fraction of the training cells"
    )


EPIFOUNDATION = Kind(
    title="EpiFoundation",
    keys=KEYS,
    fixed={
        f"{CORPUS}atlases": ["<run>"],
        # The columns that its code reads, whatever is configured.
        f"{ATLAS}batch_key": "batch",
        f"{ATLAS}cell_type_key": "annot",
        # Its vocabularies have this token, too.
        f"{SPECIAL}others": ["<eos>"],
        f"{RUN}corpus": "<run>",
        f"{RUN}objective": "peaks_to_genes",
        f"{RUN}tokenizer.strategy": "paired_peaks",
        f"{RUN}model.activation": "relu",
        f"{RUN}model.norm": "post",
        f"{RUN}optimizer.name": "adam",
        f"{RUN}scheduler.name": "cosine_restarts",
        f"{RUN}scheduler.first_cycle_epochs": 15,
        f"{RUN}scheduler.cycle_mult": 2,
        f"{RUN}scheduler.gamma": 0.9,
        f"{RUN}scheduler.min_lr": 1e-6,
        f"{RUN}training.gradient_clip": 100.0,
    },
    free=(),
    finish=finish,
    name_keys=("task_name",),
)
