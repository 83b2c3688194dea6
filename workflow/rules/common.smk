import re
import shlex
import shutil
import sys
from os.path import normpath
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

PROJECT = Path(workflow.basedir)
sys.path.insert(0, str(PROJECT / "workflow"))

from vcpipe.config.atlases import Atlas, Matrix
from vcpipe.config.checks import Checked
from vcpipe.config.corpora import LEARNS_FROM, Tokenizers
from vcpipe.config.gears import Conversion
from vcpipe.config.reading import check_files, read_pipeline, settings
from vcpipe.errors import InputError
from vcpipe.files import fingerprint, matching
from vcpipe.provenance import code

# --config set="finetune.scgpt_vcc.optimizer.lr=5e-5 eval.summary.seed=1": Snakemake refuses dots in
# the names of --config itself.
OVERRIDES = shlex.split(str(config.get("set") or ""))
PIPELINE, _ = read_pipeline(
    values={key: value for key, value in config.items() if key != "set"},
    overrides=OVERRIDES,
    source=", ".join(str(path) for path in workflow.configfiles) or "the configuration",
)
check_files(PIPELINE)
# Means of several seeds are no runs of their own; every seed is.
ENSEMBLES = PIPELINE.ensembles()
PIPELINE = PIPELINE.with_all_runs()

# Where a profile asks for conda and there is none, .venv serves: requirements.lock has the same pins.
DEPLOYMENT = workflow.deployment_settings
if DeploymentMethod.CONDA in DEPLOYMENT.deployment_method and shutil.which("conda") is None:
    DEPLOYMENT.deployment_method = set(DEPLOYMENT.deployment_method) - {DeploymentMethod.CONDA}
    if workflow.is_main_process:
        logger.warning(
            f"conda is not on PATH; rules run in {sys.prefix} instead of an env each. "
            "Install conda >= 24.7.1 (Miniforge) for the envs."
        )

# Snakemake drops PYTHONPATH inside conda jobs, and a job may run outside the activated .venv.
OWN_PYTHON = (
    ""
    if DeploymentMethod.CONDA in DEPLOYMENT.deployment_method
    else f'export PATH="{Path(sys.executable).parent}:$PATH"; '
)
# `in_env gears python ...`: a rule whose env is not the main one runs, without conda, in a venv that
# somebody has made; nothing else depends on it.
IN_ENV = (
    'in_env() {{ "${{@:2}}"; }}; '
    if DeploymentMethod.CONDA in DEPLOYMENT.deployment_method
    else 'in_env() {{ local venv="$PROJECT/.venvs/$1"; '
    "if [[ ! -e $venv/installed.lock ]]; then "
    'echo "error: $venv is not there; make it (minutes, once): make env NAME=$1" >&2; return 2; fi; '
    'PATH="$venv/bin:$PATH" "${{@:2}}"; }}; '
)
shell.executable("bash")
shell.prefix(
    "set -euo pipefail; "
    f'export PYTHONPATH="{PROJECT}:{PROJECT}/workflow" PYTHONUNBUFFERED=1; '
    f"{OWN_PYTHON}"
    f'PROJECT="{PROJECT}"; '
    f"{IN_ENV}"
    "launch() {{ local gpus=$1; shift; if (( gpus > 1 )); then "
    'python -m torch.distributed.run --standalone --nproc-per-node="$gpus" "$@"; '
    'else python "$@"; fi; }}; '
)


def one_of(names):
    """A wildcard that is one of some names of the configuration, or nothing at all."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


BASELINES = list(type(PIPELINE.eval.baselines).model_fields)


wildcard_constraints:
    dataset=one_of(PIPELINE.datasets),
    split=one_of(PIPELINE.splits),
    corpus=one_of(PIPELINE.preprocess),
    atlas=one_of(PIPELINE.atlases),
    baseline=one_of(BASELINES),
    model=one_of([*PIPELINE.finetune, *ENSEMBLES, *BASELINES]),
    ensemble=one_of(ENSEMBLES),


def raw_cells(wildcards):
    """The h5ad of a dataset: downloaded, simulated, or the user's own."""
    return path_of_dataset(wildcards.dataset)


def path_of_dataset(name):
    dataset = PIPELINE.datasets[name]
    if dataset.download:
        return f"results/fetch_dataset/{name}/dataset.h5ad"
    if dataset.simulate:
        return f"results/simulate_screen/{name}/screen.h5ad"
    return dataset.path


def census_of(wildcards):
    """The query of an atlas, with the columns that its keys name."""
    atlas = PIPELINE.atlases[wildcards.atlas]
    keys = [atlas.batch_key, atlas.cell_type_key, atlas.donor_key]
    return settings(atlas.census.keeping([*keys, *atlas.obs_columns]))


def content_of(path):
    """The content of a user's own file: a rerun trigger that a touch does not pull."""
    return fingerprint(path) if path else ""


def screens(names):
    return [f"results/convert_to_gears/{name}/perturb_processed.h5ad" for name in names]


def corpus_input(pattern):
    """A path with each dataset and the split of a corpus; none where nothing is held out."""

    def paths(wildcards):
        corpus = PIPELINE.preprocess[wildcards.corpus]
        names = corpus.datasets if corpus.split else []
        return [pattern.format(dataset=name, split=corpus.split) for name in names]

    return paths


def fitted_as(pattern):
    """A path of the corpus, or of the one whose vocabulary and record it takes."""

    def path(wildcards):
        return pattern.format(corpus=PIPELINE.preprocess[wildcards.corpus].like or wildcards.corpus)

    return path


def atlases_of(wildcards):
    """The atlases of a corpus, each with the files that its cells are in."""
    names = PIPELINE.preprocess[wildcards.corpus].atlases
    return {name: PIPELINE.atlases[name].in_file(fetched_file(name)) for name in names}


def fetched_file(name):
    """Where a rule puts the cells of an atlas that are in no file yet."""
    if PIPELINE.atlases[name].simulate:
        return f"results/simulate_atlas/{name}"
    rule_name = "fetch_census" if PIPELINE.atlases[name].census else "fetch_artifact"
    return f"results/{rule_name}/{name}/cells.h5ad"


def fetched_atlases(wildcards):
    names = PIPELINE.preprocess[wildcards.corpus].atlases
    return [fetched_file(name) for name in names if PIPELINE.atlases[name].is_fetched()]


def content_of_atlases(wildcards):
    """The content of all files of a user's own that the atlases of a corpus are read from."""
    atlases = [PIPELINE.atlases[name] for name in PIPELINE.preprocess[wildcards.corpus].atlases]
    patterns = [path for atlas in atlases for path in atlas.paths()]
    patterns += [atlas.orthologs for atlas in atlases if atlas.orthologs]
    paths = [path for pattern in patterns for path in matching(pattern)]
    return [content_of(file) for path in paths for file in files_in(path)]


def content_of_names(wildcards):
    """The content of the files that name genes; tables that are simulated come with their atlas."""
    corpus = PIPELINE.preprocess[wildcards.corpus]
    simulated = PIPELINE.tables_of(corpus)
    paths = corpus.vocabulary.files().values()
    return [content_of(path) for path in paths if normpath(path) not in simulated]


def files_in(path):
    """A file, or those of a folder (10x: matrix, features, barcodes)."""
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    return sorted(file for file in folder.iterdir() if file.is_file())


def content_read_by(wildcards):
    """The content of a user's own files that a pretraining run reads beside its corpus."""
    patterns = PIPELINE.pretrain[wildcards.run].files()
    return [content_of(path) for pattern in patterns for path in matching(pattern)]


def tokenizers_of(wildcards):
    """How the runs on a corpus make sequences of its cells, where a tokenizer makes them."""
    runs = {
        name: run.tokenizer
        for name, run in PIPELINE.pretrain.items()
        if LEARNS_FROM[run.objective]
        and run.corpus in (wildcards.corpus, PIPELINE.preprocess[wildcards.corpus].like)
    }
    return Tokenizers(runs=runs)


def finetune_input(pattern):
    """A path with the dataset and the split of a finetuning run."""

    def path(wildcards):
        run = PIPELINE.finetune[wildcards.run]
        return pattern.format(dataset=run.dataset, split=run.split)

    return path


def pretrained_folder(wildcards):
    """The folder a finetuning run starts from: one of our runs, or the user's."""
    name = PIPELINE.finetune[wildcards.run].pretrained
    if name in PIPELINE.pretrain:
        return f"results/pretrain/{name}/checkpoint"
    return name


def pretrained_content(wildcards):
    """The content of a user's own folder; of our runs, Snakemake knows when they are made anew."""
    name = PIPELINE.finetune[wildcards.run].pretrained
    if name in PIPELINE.pretrain:
        return []
    files = ("best_model.pt", "args.json", "vocab.json")
    return [content_of(Path(name) / file) for file in files]


def folder_to_start_from(wildcards):
    """The folder that a pretraining run starts from: of another run, which is made first, or own."""
    folder = PIPELINE.pretrain[wildcards.run].pretrained
    return str(Path(folder)) if folder else []


def content_of_pretrained(wildcards):
    """The content of a user's own folder that a pretraining run starts from."""
    folder = PIPELINE.pretrain[wildcards.run].pretrained
    if folder is None or PIPELINE.run_of(folder):
        return []
    files = ("best_model.pt", "model.safetensors", "args.json", "vocab.json")
    return [content_of(Path(folder) / file) for file in files]


def vocabulary_of_run(wildcards):
    """The vocabulary of that folder; of our runs the file it is copied from, made long before."""
    name = PIPELINE.finetune[wildcards.run].pretrained
    if name in PIPELINE.pretrain:
        return f"results/build_vocabulary/{PIPELINE.pretrain[name].corpus}"
    return f"{name}/vocab.json"


def aliases_of_run(wildcards):
    """The content of the table of gene names, where a finetuning run uses it."""
    return aliases_of(PIPELINE.finetune[wildcards.run].perturbation)


def aliases_of(section):
    """The content of the table of gene names, where a stage uses it."""
    return content_of(PROJECT / "resources/gene_aliases.tsv.gz") if section.gene_aliases else ""


def atlas_to_embed(wildcards):
    """Where the cells of an atlas or a dataset are, in the words of atlases."""
    if wildcards.cells in PIPELINE.atlases:
        return PIPELINE.atlases[wildcards.cells].in_file(fetched_file(wildcards.cells))
    dataset = PIPELINE.datasets[wildcards.cells]
    return Atlas(
        rna=Matrix(
            paths=[path_of_dataset(wildcards.cells)],
            layer=dataset.counts_layer or "X",
            name_key=dataset.gene_name_key,
        )
    )


def cells_to_embed(wildcards):
    """What a rule of ours makes of these cells; files of a user's own are no input."""
    if wildcards.cells in PIPELINE.atlases:
        is_fetched = PIPELINE.atlases[wildcards.cells].is_fetched()
        return fetched_file(wildcards.cells) if is_fetched else []
    is_own = PIPELINE.datasets[wildcards.cells].path is not None
    return [] if is_own else path_of_dataset(wildcards.cells)


def content_to_embed(wildcards):
    """The content of a user's own files: a touch embeds nothing anew."""
    if cells_to_embed(wildcards):
        return []
    atlas = atlas_to_embed(wildcards)
    patterns = [*atlas.paths(), *([atlas.orthologs] if atlas.orthologs else [])]
    paths = [path for pattern in patterns for path in matching(pattern)]
    return [content_of(file) for path in paths for file in files_in(path)]


def split_of(targets):
    """The split whose models predict some targets: those it holds out, or those of a list."""
    if targets in PIPELINE.target_lists:
        return PIPELINE.target_lists[targets].split
    return targets


def split_to_predict(wildcards):
    return f"results/split_perturbations/{wildcards.dataset}/{split_of(wildcards.targets)}.tsv"


def model_of(wildcards):
    """What predict_perturbations predicts with: a baseline's file or a run's folder."""
    split = split_of(wildcards.targets)
    if wildcards.model in BASELINES:
        return f"results/fit_baseline/{wildcards.dataset}/{split}/{wildcards.model}.npz"
    run = PIPELINE.finetune[wildcards.model]
    if (run.dataset, run.split) != (wildcards.dataset, split):
        raise InputError(
            f"finetune.{wildcards.model} is trained on {run.dataset}/{run.split}; "
            f"there is no prediction for {wildcards.dataset}/{split}."
        )
    return "results/finetune_perturbation/{model}/checkpoint"


def predictions_of(wildcards):
    """The predicted cells of a model, or the mean of several seeds', for a split or a list."""
    rule_name = "average_predictions" if wildcards.model in ENSEMBLES else "predict_perturbations"
    targets = wildcards.get("targets") or wildcards.split
    return f"results/{rule_name}/{{dataset}}/{targets}/{{model}}.h5ad"


def list_to_predict(wildcards):
    """The user's list of targets, as an option; nothing where those of a split are predicted."""
    if wildcards.targets not in PIPELINE.target_lists:
        return ""
    return f"--targets {shlex.quote(PIPELINE.target_lists[wildcards.targets].path)}"


def content_of_targets(wildcards):
    """The content of that list."""
    if wildcards.targets not in PIPELINE.target_lists:
        return []
    return content_of(PIPELINE.target_lists[wildcards.targets].path)


def files_of_list(wildcards):
    """The files of a list of targets that a submission is checked against, as options."""
    target_list = PIPELINE.target_lists[wildcards.targets]
    options = {"targets": target_list.path, "genes": target_list.genes}
    return " ".join(f"--{name} {shlex.quote(path)}" for name, path in options.items() if path)


def content_of_list(wildcards):
    return [content_of(path) for path in PIPELINE.target_lists[wildcards.targets].files().values()]


def scored_models():
    """(dataset, split, model) of the summary: every finetuning run, and all baselines beside it.

    The mean of several seeds stands beside them.
    """
    runs = {name: (run.dataset, run.split) for name, run in PIPELINE.finetune.items()}
    runs |= {name: runs[members[0]] for name, members in ENSEMBLES.items()}
    tasks = sorted(set(runs.values())) or [
        (dataset, split) for dataset in PIPELINE.datasets for split in PIPELINE.splits
    ]
    return [
        (*task, model)
        for task in tasks
        for model in [*(name for name in runs if runs[name] == task), *BASELINES]
    ]


# The pretraining runs that something is finetuned from; others are made by naming their target.
PRETRAINED_HERE = sorted(
    {run.pretrained for run in PIPELINE.finetune.values()} & set(PIPELINE.pretrain)
)
CORPORA_HERE = sorted({PIPELINE.pretrain[run].corpus for run in PRETRAINED_HERE})
# Without screens there is nothing to score: then all corpora and runs are wanted for themselves.
EVERYTHING = (
    ["results/eval/summary.csv"]
    if PIPELINE.datasets
    else [
        *(f"results/check_corpus/{corpus}" for corpus in PIPELINE.preprocess),
        *(f"results/pretrain/{run}/checkpoint" for run in PIPELINE.pretrain),
    ]
)
