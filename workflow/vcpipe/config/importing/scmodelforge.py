"""The configuration of scModelForge."""

from vcpipe.config.importing.keys import ATLAS, CORPUS, RUN, Imported, Key, Kind
from vcpipe.errors import InputError

TASKS = {
    "transformer_encoder": "masked_gene_prediction",
    "autoregressive_transformer": "next_token",
    "masked_autoencoder": "masked_value",
}
OBJECTIVES = {
    "transformer_encoder": "masked_genes",
    "autoregressive_transformer": "next_genes",
    "masked_autoencoder": "masked_autoencoder",
}
LOCAL = ("data.source", ("local",))
CENSUS = ("data.source", ("cellxgene_census",))
CAUSAL = ("model.architecture", ("autoregressive_transformer",))
AUTOENCODER = ("model.architecture", ("masked_autoencoder",))
BERT = ("model.architecture", ("transformer_encoder",))
BINNED = ("tokenizer.strategy", ("binned_expression",))
VECTORS = ("tokenizer.strategy", ("gene_embedding",))
VOCABULARY = "a name without a list behind it: all genes of the files are taken"
ELSEWHERE = "embeddings are evaluated by rules of their own, not while training"
FINETUNE = "finetune.<run> learns perturbations; heads and LoRA on these models do not exist"
MACHINE = "GPUs, threads and nodes stand in profiles/*/config.yaml"
FOLDERS = "everything of a run lies in results/pretrain/<run>"

KEYS = {
    "data.source": Key(
        "atlases.<atlas>.rna or census", "which of both", default="local", in_finish=True
    ),
    "data.paths": Key(f"{ATLAS}rna.paths", read_if=LOCAL),
    "data.gene_vocab": Key(
        f"{CORPUS}vocabulary.genes", VOCABULARY, skip=("human_protein_coding", None)
    ),
    "data.max_genes": Key(f"{RUN}tokenizer.max_genes"),
    "data.num_workers": Key(None, MACHINE),
    "data.preprocessing.normalize": Key(f"{CORPUS}fit.normalize"),
    "data.preprocessing.target_sum": Key(
        f"{CORPUS}fit.target_sum", "no sum is no key", skip=(None,)
    ),
    "data.preprocessing.hvg_selection": Key(
        f"{CORPUS}fit.hvg_selection", "all genes are the default", skip=(None,)
    ),
    "data.preprocessing.log1p": Key(f"{CORPUS}fit.log1p"),
    **{
        f"data.census.{name}": Key(
            f"{ATLAS}census.{name}", "not set is no key", skip=(None,), read_if=CENSUS
        )
        for name in (
            *("organism", "census_version", "obs_value_filter", "var_value_filter"),
            *("filters", "obs_columns"),
        )
    },
    "tokenizer.strategy": Key(f"{RUN}tokenizer.strategy", default="rank_value"),
    "tokenizer.max_genes": Key(f"{RUN}tokenizer.max_genes", default=2048),
    "tokenizer.gene_vocab": Key(
        f"{CORPUS}vocabulary.genes", VOCABULARY, skip=("human_protein_coding", None)
    ),
    "tokenizer.prepend_cls": Key(f"{RUN}tokenizer.prepend_cls"),
    "tokenizer.n_bins": Key(f"{RUN}tokenizer.n_bins", default=51, read_if=BINNED),
    "tokenizer.binning_method": Key(
        f"{RUN}tokenizer.binning_method", default="uniform", read_if=BINNED
    ),
    "tokenizer.embedding_path": Key(f"{CORPUS}vocabulary.gene_embeddings.human", read_if=VECTORS),
    "tokenizer.embedding_dim": Key(f"{RUN}tokenizer.embedding_dim", default=200, read_if=VECTORS),
    "tokenizer.masking.mask_ratio": Key(
        f"{RUN}tokenizer.masking.mask_ratio or masked_autoencoder.mask_ratio",
        default=0.15,
        in_finish=True,
    ),
    "tokenizer.masking.random_replace_ratio": Key(
        f"{RUN}tokenizer.masking.random_replace_ratio", default=0.1, read_if=BERT
    ),
    "tokenizer.masking.keep_ratio": Key(
        f"{RUN}tokenizer.masking.keep_ratio", default=0.1, read_if=BERT
    ),
    "model.architecture": Key(
        f"{RUN}objective", "named by what is learned", "transformer_encoder", OBJECTIVES
    ),
    "model.hidden_dim": Key(f"{RUN}model.hidden_dim", default=512),
    "model.num_layers": Key(f"{RUN}model.num_layers", default=12),
    "model.num_heads": Key(f"{RUN}model.num_heads", default=8),
    "model.ffn_dim": Key(f"{RUN}model.ffn_dim", "4 × hidden_dim, written out", skip=(None,)),
    "model.dropout": Key(f"{RUN}model.dropout", default=0.1),
    "model.max_seq_len": Key(None, "a sequence has at most tokenizer.max_genes tokens"),
    "model.pooling": Key(f"{RUN}<objective>.pooling", default="cls", in_finish=True),
    "model.activation": Key(f"{RUN}model.activation", default="gelu"),
    "model.use_expression_values": Key(
        f"{RUN}<objective>.use_expression_values",
        "masked_autoencoder always has them",
        default=True,
        in_finish=True,
    ),
    "model.pretraining_task": Key(None, "the objective decides it", only=(*TASKS.values(),)),
    "model.mask_ratio": Key(
        f"{RUN}tokenizer.masking.mask_ratio or masked_autoencoder.mask_ratio",
        "the same number as tokenizer.masking.mask_ratio",
        in_finish=True,
    ),
    "model.vocab_size": Key(None, "the vocabulary decides it"),
    "model.n_bins": Key(f"{RUN}tokenizer.n_bins", read_if=BINNED),
    "model.gene_loss_weight": Key(f"{RUN}next_genes.gene_loss_weight", read_if=CAUSAL),
    "model.expression_loss_weight": Key(f"{RUN}next_genes.expression_loss_weight", read_if=CAUSAL),
    "model.decoder_dim": Key(f"{RUN}masked_autoencoder.decoder_dim", read_if=AUTOENCODER),
    "model.decoder_layers": Key(f"{RUN}masked_autoencoder.decoder_layers", read_if=AUTOENCODER),
    "model.decoder_heads": Key(f"{RUN}masked_autoencoder.decoder_heads", read_if=AUTOENCODER),
    "training.batch_size": Key(f"{RUN}training.batch_size", default=64),
    "training.max_epochs": Key(f"{RUN}training.max_epochs", default=10),
    "training.seed": Key(f"{RUN}training.seed", default=42),
    "training.strategy": Key(
        f"{RUN}training.strategy",
        values={"ddp": "ddp", "auto": "auto", "fsdp": "fsdp"},
    ),
    "training.num_gpus": Key(None, MACHINE),
    "training.precision": Key(f"{RUN}training.precision", default="bf16-mixed", values=str),
    "training.optimizer.name": Key(f"{RUN}optimizer.name", default="adamw"),
    "training.optimizer.lr": Key(f"{RUN}optimizer.lr", default=1e-4),
    "training.optimizer.weight_decay": Key(f"{RUN}optimizer.weight_decay", default=0.01),
    "training.scheduler.name": Key(f"{RUN}scheduler.name", default="cosine_warmup"),
    "training.scheduler.warmup_steps": Key(
        f"{RUN}scheduler.warmup_steps",
        default=2000,
        read_if=("training.scheduler.name", ("cosine_warmup", "linear")),
    ),
    "training.scheduler.total_steps": Key(f"{RUN}scheduler.total_steps"),
    "training.scheduler": Key(f"{RUN}scheduler.name", "no scheduler", values={None: "constant"}),
    "training.gradient_clip": Key(f"{RUN}training.gradient_clip", default=1.0),
    "training.gradient_accumulation": Key(f"{RUN}training.gradient_accumulation"),
    "training.logger": Key(f"{RUN}training.logger", "wandb keeps all on disk: wandb sync"),
    "training.wandb_project": Key(
        f"{RUN}training.wandb_project", read_if=("training.logger", ("wandb",))
    ),
    "training.run_name": Key("pretrain.<run>", "the run's name", in_finish=True),
    "training.log_dir": Key(None, FOLDERS),
    "training.log_every_n_steps": Key(f"{RUN}training.log_every_n_steps", default=50),
    "training.checkpoint_dir": Key(None, FOLDERS),
    "training.save_top_k": Key(f"{RUN}training.save_top_k"),
    "training.num_workers": Key(None, MACHINE),
    "training.val_split": Key(
        f"{CORPUS}cell_split.val", "nothing is fitted on these cells", default=0.05
    ),
    "training.resume_from": Key(None, "a run that is started again goes on where it was"),
    **{f"eval.{name}": Key(None, ELSEWHERE) for name in ("every_n_epochs", "benchmarks")},
    "eval.batch_size": Key("eval.embedding.batch_size", "of embed_cells"),
    **{
        f"finetune.{name}": Key(None, FINETUNE)
        for name in (
            *("checkpoint_path", "freeze_backbone", "freeze_backbone_epochs", "label_key"),
            *("head.task", "head.n_classes", "head.output_dim", "head.hidden_dim", "head.dropout"),
            *("backbone_lr", "head_lr", "lora.enabled", "lora.rank", "lora.alpha"),
            *("lora.dropout", "lora.target_modules", "lora.bias"),
        )
    },
    "finetune": Key(None, "no finetuning"),
}


def finish(made: Imported, whole: dict) -> None:
    """What several keys decide together."""
    source = whole["data.source"]
    if source not in ("local", "cellxgene_census"):
        raise InputError(f"data.source is {source!r}; expected 'local' or 'cellxgene_census'.")
    if source == "local" and not whole.get("data.paths"):
        raise InputError("data.paths is empty; expected the h5ad files to learn from.")
    if source == "cellxgene_census":
        made.ours.setdefault(f"{ATLAS}census.organism", "Homo sapiens")
        if made.ours[f"{ATLAS}census.organism"] == "Mus musculus":
            made.ours[f"{ATLAS}species"] = "mouse"
    if made.ours[f"{RUN}scheduler.name"] == "constant":
        made.ours.pop(f"{RUN}scheduler.warmup_steps", None)
    objective, architecture = made.ours[f"{RUN}objective"], whole["model.architecture"]
    task = whole.get("model.pretraining_task")
    if task not in (None, TASKS[architecture]):
        raise InputError(
            f"model.pretraining_task is {task!r} and model.architecture is {architecture!r}, which "
            f"learns {TASKS[architecture]}; leave model.pretraining_task out."
        )
    longest, most = whole.get("model.max_seq_len"), made.ours[f"{RUN}tokenizer.max_genes"]
    if longest is not None and longest < most:
        raise InputError(
            f"model.max_seq_len is {longest} and tokenizer.max_genes is {most}; expected at least "
            "as many places as tokens."
        )
    width = made.ours[f"{RUN}model.hidden_dim"]
    made.ours.setdefault(f"{RUN}model.ffn_dim", 4 * width)
    _mask_ratio(made, whole, objective)
    if objective == "next_genes" and whole["tokenizer.strategy"] != "binned_expression":
        made.ours[f"{RUN}next_genes.expression_loss_weight"] = 0
        made.changed.append("next_genes.expression_loss_weight: 0, these tokens have no bins")
    if objective != "masked_autoencoder":
        key = f"{RUN}{objective}.use_expression_values"
        made.put(key, whole["model.use_expression_values"], "model.use_expression_values")
    made.put(f"{RUN}{objective}.pooling", whole["model.pooling"], "model.pooling")
    if f"{CORPUS}fit.hvg_selection" in made.ours:
        made.ours[f"{CORPUS}fit.hvg_only"] = True
    epochs = made.ours[f"{RUN}training.max_epochs"]
    made.ours[f"{RUN}training.early_stopping.patience"] = epochs


def _mask_ratio(made: Imported, whole: dict, objective: str) -> None:
    """Two keys of theirs for one number."""
    ratio = whole["tokenizer.masking.mask_ratio"]
    other = whole.get("model.mask_ratio", ratio)
    if other != ratio:
        raise InputError(
            f"model.mask_ratio is {other} and tokenizer.masking.mask_ratio is {ratio}; expected "
            "the same number in both."
        )
    if objective == "masked_genes":
        made.put(f"{RUN}tokenizer.masking.mask_ratio", ratio, "model.mask_ratio")
    elif objective == "masked_autoencoder":
        made.put(f"{RUN}masked_autoencoder.mask_ratio", ratio, "model.mask_ratio")
    else:
        made.dropped.append(f"mask_ratio: {ratio}: {objective} hides nothing")


SCMODELFORGE = Kind(
    title="scModelForge",
    keys=KEYS,
    fixed={
        f"{CORPUS}atlases": ["<run>"],
        f"{CORPUS}vocabulary.join": "intersection",
        f"{RUN}corpus": "<run>",
        f"{RUN}model.norm": "pre",
    },
    free=("data.census.filters", "eval.benchmarks"),
    finish=finish,
    name_keys=("training.run_name",),
)
