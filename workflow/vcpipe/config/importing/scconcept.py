"""The configuration of scConcept, resolved: the config.yaml beside a checkpoint."""

import re
from pathlib import PurePosixPath

from vcpipe.config.importing.keys import CORPUS, RUN, Imported, Key, Kind
from vcpipe.errors import InputError, listed

PANELS = f"{RUN}contrastive.panels."
TRAIN = "datamodule.dataset.train."
FROM_FILES = (f"{TRAIN}panel_selection", ("preselected", "mixed"))
COSINE = ("model.training.scheduler", ("warmup_cosine",))
MACHINE = "GPUs, threads and nodes stand in profiles/*/config.yaml"
FOLDERS = "everything of a run lies in results/pretrain/<run>"
MONITORED = "validation is val_loss; embed_cells and plot_embeddings show labels"
RESUME = "a run that is started again goes on where it was"
# Their word -> how counts are normalised, and whether logarithms are taken.
NORMALISATIONS = {
    "raw": (None, False),
    "log1p": (None, True),
    "totalcount": ("library_size", False),
    "totalcount_log1p": ("library_size", True),
}

KEYS = {
    "defaults": Key(None, "the file must be resolved"),
    "model.name": Key(None, "the objective", only=("ContrastiveModel",)),
    "model.flash_attention": Key(None, "the device decides on its kernel"),
    "model.dim_gene_embs": Key(None, "gene vectors are as wide as the encoder"),
    "model.dim_pretrained_vocab": Key(None, "the file of vectors decides it"),
    "model.dim_model": Key(f"{RUN}model.hidden_dim", default=512),
    "model.num_head": Key(f"{RUN}model.num_heads", default=8),
    "model.dim_hid": Key(f"{RUN}model.ffn_dim", default=1024),
    "model.projection_dim": Key(f"{RUN}contrastive.projection_dim"),
    "model.nlayers": Key(f"{RUN}model.num_layers", default=8),
    "model.dropout": Key(f"{RUN}model.dropout", default=0.1),
    "model.decoder_head": Key(
        None, "values are read by a small head of their own (mlm_loss_weight)"
    ),
    "model.norm_scheme": Key(f"{RUN}model.norm", default="pre"),
    "model.activation": Key(f"{RUN}model.activation", default="gelu"),
    "model.values_only_sanity_check": Key(None, "a test of its code", only=(False,)),
    "model.data_loading_speed_sanity_check": Key(None, "a test of its code", only=(False,)),
    "model.mlm_loss_weight": Key(f"{RUN}contrastive.mlm_loss_weight"),
    "model.cont_loss_weight": Key(f"{RUN}contrastive.cont_loss_weight"),
    "model.contrastive_loss": Key(None, "InfoNCE is the only contrast here", only=("multiclass",)),
    "model.logit_scale_init_value": Key(f"{RUN}contrastive.logit_scale"),
    "model.pe_max_len": Key(None, "ranks have no longest"),
    "model.input_encoding": Key(f"{RUN}contrastive.input_encoding"),
    "model.loss_switch_step": Key(f"{RUN}contrastive.loss_switch_step"),
    "model.training.resume_from_checkpoint": Key(None, RESUME),
    "model.training.validate_before_training": Key(None, "val_loss comes after every epoch"),
    "model.training.masking_rate": Key(f"{RUN}contrastive.masking_rate"),
    "model.training.lr": Key(f"{RUN}optimizer.lr", default=1e-4),
    "model.training.weight_decay": Key(f"{RUN}optimizer.weight_decay", default=0.0),
    "model.training.optimizer_class": Key(
        f"{RUN}optimizer.name", default="AdamW", values={"AdamW": "adamw", "Adam": "adam"}
    ),
    "model.training.scheduler": Key(
        f"{RUN}scheduler.name",
        "named by what follows the warm-up",
        default="warmup",
        values={"warmup": "constant", "warmup_cosine": "cosine_warmup"},
    ),
    "model.training.freeze_pretrained_vocabulary": Key(
        None, "pretrained vectors stay, what is added to them learns", only=(False,)
    ),
    "model.training.use_learnable_embs_freq": Key(
        f"{RUN}contrastive.use_learnable_embs_freq", "1, always", skip=(None,)
    ),
    "model.training.warmup": Key(f"{RUN}scheduler.warmup_steps", default=10000),
    "model.training.max_steps": Key(
        f"{RUN}scheduler.total_steps",
        "the length is in epochs: set pretrain.<run>.training.max_epochs",
        read_if=COSINE,
    ),
    "model.training.min_lr": Key(f"{RUN}scheduler.min_lr", read_if=COSINE),
    "model.training.accelerator": Key(None, MACHINE),
    "model.training.devices": Key(None, MACHINE),
    "model.training.num_nodes": Key(None, MACHINE),
    "model.training.limit_train_batches": Key(
        None, "all cells are seen; loading.num_samples draws fewer", only=(1, 1.0)
    ),
    "model.training.val_check_interval": Key(
        f"{RUN}training.validate_every_n_steps", default=100000
    ),
    "model.training.check_val_every_n_epoch": Key(
        f"{RUN}training.validate_every_n_epochs", "every epoch", skip=(None,)
    ),
    "model.training.accumulate_grad_batches": Key(f"{RUN}training.gradient_accumulation"),
    "model.training.gradient_clip_val": Key(f"{RUN}training.gradient_clip"),
    "model.training.log_every_n_steps": Key(f"{RUN}training.log_every_n_steps", default=100),
    "datamodule.name": Key(None, "there is one way to read a store"),
    "datamodule.species": Key(None, "every split says its own"),
    "datamodule.obs_keys": Key(None, MONITORED),
    "datamodule.columns": Key(None, MONITORED),
    "datamodule.label_keys_to_monitor": Key(None, MONITORED),
    "datamodule.batch_keys_to_monitor": Key(None, MONITORED),
    "datamodule.normalization": Key(
        f"{CORPUS}fit.normalize and log1p", "values only, ranks are the same", "raw", in_finish=True
    ),
    "datamodule.gene_sampling_strategy": Key(
        None, "a view has the most expressed detected genes", only=("top-nonzero",)
    ),
    "datamodule.model_speed_sanity_check": Key(None, "a test of its code", only=(False,)),
    "datamodule.precomp_embs_key": Key(None, "cells are read, not vectors", only=(None,)),
    f"{TRAIN}max_tokens": Key(f"{PANELS}max_tokens", default=1000),
    f"{TRAIN}panel_overlap": Key(
        f"{PANELS}panel_overlap", "a probability", values=lambda share: float(share)
    ),
    f"{TRAIN}panel_selection": Key(f"{PANELS}panel_selection", default="mixed"),
    f"{TRAIN}panel_selection_mixed_prob": Key(
        f"{PANELS}panel_selection_mixed_prob", read_if=(FROM_FILES[0], ("mixed",))
    ),
    f"{TRAIN}panel_filter_regex": Key(None, "all files of the folder are panels", only=(".*",)),
    f"{TRAIN}panel_size_min": Key(f"{PANELS}panel_size_min"),
    f"{TRAIN}panel_size_max": Key(f"{PANELS}panel_size_max"),
    f"{TRAIN}panel_max_drop_rate": Key(f"{PANELS}panel_max_drop_rate", read_if=FROM_FILES),
    f"{TRAIN}feature_max_drop_rate": Key(
        f"{PANELS}feature_max_drop_rate", "none is left out", skip=(None,)
    ),
    f"{TRAIN}split": Key("atlases.<source_name>", "files and species", in_finish=True),
    "datamodule.dataset.val": Key(None, "val_loss has the panels of training"),
    "datamodule.dataloader.train.within_group_sampling": Key(
        f"{RUN}loading.strategy and {CORPUS}store.group_by", default="dataset", in_finish=True
    ),
    "datamodule.dataloader.train.batch_size": Key(
        f"{RUN}training.batch_size", "of each process here, of all together there", default=128
    ),
    "datamodule.dataloader.train.shuffle": Key(None, "cells are shuffled", only=(True,)),
    "datamodule.dataloader.train.num_workers": Key(None, MACHINE),
    "datamodule.dataloader.train.pin_memory": Key(None, MACHINE),
    "datamodule.dataloader.train.drop_last": Key(None, "no cell is dropped"),
    "datamodule.dataloader.train.num_samples": Key(None, "an epoch is all cells", only=(None,)),
    "datamodule.dataloader.val": Key(None, "val_loss has the batches of training"),
    "wandb.enabled": Key(
        f"{RUN}training.logger", "wandb keeps all on disk", values={True: "wandb", False: "csv"}
    ),
    "wandb.run_name": Key("pretrain.<run>", "the run's name", in_finish=True),
    "wandb.entity": Key(None, "wandb sync asks for it"),
    "wandb.project": Key(f"{RUN}training.wandb_project", read_if=("wandb.enabled", (True,))),
    **{
        f"initialize.{name}": Key(None, RESUME)
        for name in ("resume", "run_id", "checkpoint", "create_new_run", "config_file")
    },
    "profiler.enabled": Key(None, "py-spy and torch.profiler need no setting"),
    "PATH.PROJECT_PATH": Key(None, "paths are written out"),
    "PATH.LOCAL_DIR": Key(None, "the store lies where results/ is, or links to"),
    "PATH.CHECKPOINT_ROOT": Key(None, FOLDERS),
    "PATH.PANELS_PATH": Key(f"{PANELS}folder", read_if=FROM_FILES),
    "PATH.GENE_MAPPING_PATH": Key(f"{CORPUS}vocabulary.genes", "by species", in_finish=True),
    "PATH.PRETRAINED_VOCABULARY": Key(
        f"{CORPUS}vocabulary.gene_embeddings", "by species", in_finish=True
    ),
}


def finish(made: Imported, whole: dict) -> None:
    """What several keys decide together."""
    splits = whole.get(f"{TRAIN}split")
    if not splits or not all(isinstance(split, dict) for split in splits):
        raise InputError(
            f"{TRAIN}split has {splits!r}; expected the resolved configuration, with source_name, "
            "species, source_path and train of each source: the config.yaml beside a checkpoint."
        )
    names = [_add_source(made, split) for split in splits]
    made.ours[f"{CORPUS}atlases"] = names
    species = sorted({made.ours[f"atlases.{name}.species"] for name in names})
    for key, ours in (
        ("PATH.GENE_MAPPING_PATH", "genes"),
        ("PATH.PRETRAINED_VOCABULARY", "gene_embeddings"),
    ):
        folder = whole.get(key)
        if not folder:
            continue
        if str(folder).endswith(".csv") and len(species) > 1:
            raise InputError(
                f"{key} is the file {folder}, and there are {len(species)} species; expected a "
                "folder with <species>.csv."
            )
        is_file = str(folder).endswith(".csv")
        for name in species:
            path = folder if is_file else str(PurePosixPath(str(folder)) / f"{name}.csv")
            made.put(f"{CORPUS}vocabulary.{ours}.{name}", path, key)
        if ours == "gene_embeddings":
            made.ours[f"{RUN}contrastive.pretrained_embeddings"] = True
    _groups(made, whole["datamodule.dataloader.train.within_group_sampling"], names)
    how = whole["datamodule.normalization"]
    if how not in NORMALISATIONS:
        raise InputError(f"datamodule.normalization is {how!r}; expected {listed(NORMALISATIONS)}.")
    made.ours[f"{CORPUS}fit.normalize"], made.ours[f"{CORPUS}fit.log1p"] = NORMALISATIONS[how]
    made.changed.append(
        "model.training.max_steps: the length of a run is in epochs; set "
        "pretrain.<run>.training.max_epochs"
    )


def _add_source(made: Imported, split: dict) -> str:
    missing = [
        key for key in ("source_name", "species", "source_path", "train") if key not in split
    ]
    unknown = sorted({*split} - {"source_name", "species", "source_path", "train", "val"})
    if missing or unknown:
        raise InputError(
            f"A source of {TRAIN}split lacks {listed(missing) or 'nothing'} and has "
            f"{listed(unknown) or 'nothing else'}; expected source_name, species, source_path, "
            "train and val."
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", str(split["source_name"])).lstrip("._-")
    folder = PurePosixPath(str(split["source_path"]))
    made.ours[f"atlases.{name}.rna.paths"] = [str(folder / each) for each in split["train"]]
    made.ours[f"atlases.{name}.species"] = str(split["species"])
    if split.get("val"):
        test = f"{name}_val"
        made.ours[f"atlases.{test}.rna.paths"] = [str(folder / each) for each in split["val"]]
        made.ours[f"atlases.{test}.species"] = str(split["species"])
        made.ours.setdefault(f"preprocess.{made.run}_val.atlases", []).append(test)
        made.ours[f"preprocess.{made.run}_val.like"] = made.run
        made.changed.append(
            f"val of {name}: atlases.{test}, new cells to embed; val_loss is of "
            "pretrain.<run>.val_fraction of the training cells"
        )
    return name


def _groups(made: Imported, groups, names: list[str]) -> None:
    if groups is None:
        return
    labels = groups if isinstance(groups, list) else [groups]
    # Without a key the batch is the dataset.
    labels = ["batch" if label == "dataset" else label for label in labels]
    made.ours[f"{RUN}loading.strategy"] = "within_group"
    made.ours[f"{CORPUS}store.group_by"] = labels
    keyed = {"cell_type", "donor", "batch"}
    for name in names:
        for label in labels:
            if label in keyed - {"batch"}:
                made.ours[f"atlases.{name}.{label}_key"] = label
        others = [label for label in labels if label not in keyed]
        if others:
            made.ours[f"atlases.{name}.obs_columns"] = others


SCCONCEPT = Kind(
    title="scConcept",
    keys=KEYS,
    fixed={
        f"{RUN}corpus": "<run>",
        f"{RUN}objective": "contrastive",
        f"{RUN}training.precision": "bf16-mixed",
    },
    free=("datamodule.dataset.val", "datamodule.dataloader.val"),
    finish=finish,
    name_keys=("wandb.run_name",),
)
