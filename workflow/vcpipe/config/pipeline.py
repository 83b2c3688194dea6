"""The whole configuration, and what its sections promise each other."""

from os.path import normpath
from typing import Literal

from pydantic import Field

from vcpipe.config.atlases import Atlas
from vcpipe.config.checks import Checks
from vcpipe.config.corpora import (
    corpus_contradictions,
    file_contradictions,
    finetune_loading_contradictions,
    label_contradictions,
    like_contradictions,
    run_contradictions,
)
from vcpipe.config.datasets import Dataset
from vcpipe.config.eval import Eval
from vcpipe.config.finetune import Finetune
from vcpipe.config.gears import Gears
from vcpipe.config.loader import Loader
from vcpipe.config.preprocess import Corpus
from vcpipe.config.pretrain import Pretrain
from vcpipe.config.section import Name, Section
from vcpipe.config.splits import Split
from vcpipe.config.target_lists import TargetList
from vcpipe.config.training import rate_contradictions
from vcpipe.errors import listed


class Pipeline(Section):
    schema_version: Literal[1] = Field(1, description="version of this layout")
    datasets: dict[Name, Dataset] = Field({}, description="screens, by name")
    atlases: dict[Name, Atlas] = Field({}, description="cells without perturbations, by name")
    gears: Gears = Field(Gears(), description="conversion to GEARS's files")
    checks: Checks = Field(Checks(), description="when check_dataset flags something")
    splits: dict[Name, Split] = Field({}, description="splits of perturbations, by name")
    target_lists: dict[Name, TargetList] = Field(
        {}, description="perturbations to predict, beside those that splits hold out, by name"
    )
    preprocess: dict[Name, Corpus] = Field({}, description="corpora for pretraining, by name")
    pretrain: dict[Name, Pretrain] = Field({}, description="pretraining runs, by name")
    finetune: dict[Name, Finetune] = Field({}, description="finetuning runs, by name")
    eval: Eval = Field(Eval(), description="baselines, metrics, summary")
    loader: Loader | None = Field(
        None, description="scDataset's training experiments; null: none (results/loader/)"
    )

    def with_all_runs(self) -> "Pipeline":
        """The same, where each seed and each twin without pretraining is a run of its own."""
        runs = [its.runs(name) for name, its in self.finetune.items()]
        return self.model_copy(
            update={"finetune": {name: its for each in runs for name, its in each.items()}}
        )

    def ensembles(self) -> dict[str, list[str]]:
        """Means of several seeds: the finetuning runs that each is made of."""
        found = [its.ensembles(name) for name, its in self.finetune.items()]
        return {name: members for each in found for name, members in each.items()}

    def run_of(self, folder: str) -> str | None:
        """The pretraining run that writes a folder; None where it is a user's own."""
        return next((run for run in self.pretrain if normpath(folder) == folder_of(run)), None)

    def lineage(self, run: str) -> list[str]:
        """A pretraining run, the run that it starts from, the one that this starts from, ..."""
        found = []
        while run in self.pretrain and run not in found:
            found.append(run)
            run = self.run_of(self.pretrain[run].pretrained or "")
        return found

    def tables_of(self, corpus: Corpus) -> set[str]:
        """The tables of genes and chromosomes that are simulated with a corpus's atlases."""
        known = [name for name in corpus.atlases if name in self.atlases]
        return {
            f"results/simulate_atlas/{name}/gene_chromosomes.tsv"
            for name in known
            if self.atlases[name].simulate
        }


def folder_of(run: str) -> str:
    return f"results/pretrain/{run}/checkpoint"


def contradictions(pipeline: Pipeline, names: dict[str, set[str]] | None = None) -> list[str]:
    """List what is wrong between sections; each section is right in itself.

    `names` holds, by section, names that exist without being in the pipeline, because their own
    settings are wrong: a reference to one of them is right.
    """
    found = []

    def check_name(where: str, name: str, section: str) -> bool:
        known = {*getattr(pipeline, section), *(names or {}).get(section, ())}
        if name not in known:
            shown = listed(sorted(known)) or "none yet"
            found.append(f"{where} is {name!r}; expected a name in {section} ({shown})")
        return name in getattr(pipeline, section)

    for name, dataset in pipeline.datasets.items():
        sources = [key for key in ("path", "download", "simulate") if getattr(dataset, key)]
        if len(sources) != 1:
            found.append(
                f"datasets.{name} has {' and '.join(sources) or 'no source'}; "
                "expected exactly one of path, download, simulate"
            )
    for name, target_list in pipeline.target_lists.items():
        check_name(f"target_lists.{name}.split", target_list.split, "splits")
        if name in pipeline.splits:
            found.append(
                f"target_lists.{name} has the name of a split; give it another: both name a folder "
                "of predictions"
            )
    for name, corpus in pipeline.preprocess.items():
        for section in ("datasets", "atlases"):
            for one in getattr(corpus, section):
                check_name(f"preprocess.{name}.{section}", one, section)
        cells = pipeline.datasets, pipeline.atlases
        found += corpus_contradictions(name, corpus)
        found += file_contradictions(name, corpus, *cells)
        found += label_contradictions(name, corpus, pipeline.atlases)
        if corpus.split:
            check_name(f"preprocess.{name}.split", corpus.split, "splits")
        if corpus.like and check_name(f"preprocess.{name}.like", corpus.like, "preprocess"):
            found += like_contradictions(name, corpus, pipeline.preprocess, *cells)
    for name, run in pipeline.pretrain.items():
        if check_name(f"pretrain.{name}.corpus", run.corpus, "preprocess"):
            corpus = pipeline.preprocess[run.corpus]
            found += run_contradictions(name, run, corpus, pipeline.atlases)
        found += rate_contradictions(f"pretrain.{name}.", run.optimizer, run.scheduler)
        corpus = pipeline.preprocess.get(run.corpus)
        keeps_none = corpus is None or not corpus.cell_split.keeps_val()
        early = run.training.early_stopping
        if early.is_score:
            found.append(
                f"pretrain.{name}.training.early_stopping.monitor is {early.monitor}, which only "
                "finetuning says of perturbations; expected val_loss or train_loss"
            )
        monitored = early.monitor == "val_loss"
        if run.val_fraction == 0 and keeps_none and monitored:
            found.append(
                f"pretrain.{name}.val_fraction is 0 but training.early_stopping.monitor is val_loss"
                "; expected a fraction above 0, or train_loss"
            )
        found += _starts(pipeline, name, run)
    for name, run in pipeline.finetune.items():
        check_name(f"finetune.{name}.dataset", run.dataset, "datasets")
        if name in pipeline.eval.baselines.__class__.model_fields:
            found.append(f"finetune.{name} has the name of a baseline; give it another")
        if check_name(f"finetune.{name}.split", run.split, "splits"):
            split = pipeline.splits[run.split]
            early = run.training.early_stopping
            if split.never_has_val() and early.needs_val:
                found.append(
                    f"finetune.{name}.training.early_stopping.monitor is {early.monitor} but "
                    f"splits.{run.split} keeps no perturbation for val; expected train_loss"
                )
        its = pipeline.pretrain.get(run.pretrained)
        if its is not None and run.pretrained_sha256 is not None:
            found.append(
                f"finetune.{name}.pretrained_sha256 says what the files of a folder must be, but "
                f"pretrained is {run.pretrained!r}, a run of this pipeline; expected null"
            )
        if its is not None and its.objective != "masked_values":
            found.append(
                f"finetune.{name}.pretrained is {run.pretrained!r}, whose objective is "
                f"{its.objective}; scGPT's model takes the weights of masked_values"
            )
        found += rate_contradictions(f"finetune.{name}.", run.optimizer, run.scheduler)
        found += finetune_loading_contradictions(name, run.loading)
        found += _leaks(pipeline, name, run)
        found += _strays(pipeline, name, run)
        made = {*run.runs(name), *run.ensembles(name)} - {name}
        if twice := sorted(made & set(pipeline.finetune)):
            found.append(
                f"finetune.{name}.{'seeds' if run.seeds else 'random_init_twin'} makes a run "
                f"{listed(twice)}, and finetune has one of that name; give that another"
            )
    return found


def _starts(pipeline: Pipeline, name: str, run: Pretrain) -> list[str]:
    """A run that starts from one of another objective or size, or from itself."""
    start = pipeline.run_of(run.pretrained) if run.pretrained else None
    if start == name:
        return [f"pretrain.{name}.pretrained is its own folder; expected that of another run"]
    if start is None:
        return []
    other, key = pipeline.pretrain[start], f"pretrain.{name}"
    pairs = {"objective": (run.objective, other.objective)}
    for size in type(run.model).model_fields:
        if size != "dropout":  # which has no weights
            pairs[f"model.{size}"] = getattr(run.model, size), getattr(other.model, size)
    return [
        f"{key}.{what} is {ours}, but pretrain.{start}, where it starts from, has {its}; expected "
        "the same"
        for what, (ours, its) in pairs.items()
        if ours != its
    ]


def _strays(pipeline: Pipeline, name: str, run: Finetune) -> list[str]:
    """Pairs that would bring controls of held-out contexts into training."""
    split = pipeline.splits.get(run.split)
    key = split.context_key if split else None
    within = pipeline.gears.pairing.within
    if key is None or within in (key, "batch"):
        return []
    return [
        f"finetune.{name} must not learn from controls of the contexts that splits.{run.split} "
        f"holds out, but gears.pairing.within is {within!r}; expected {key!r}"
    ]


def _leaks(pipeline: Pipeline, name: str, run: Finetune) -> list[str]:
    """Corpora that hold the cells a run is tested on, or control cells that are kept for scoring.

    Any split leaves the latter out, so where no perturbation is held out, any will do. An encoder
    has also seen the corpora of the runs that its own started from.
    """
    tested, split = pipeline.datasets.get(run.dataset), pipeline.splits.get(run.split)
    if tested is None or split is None:
        return []
    found, starts = [], pipeline.lineage(run.pretrained)
    for its in dict.fromkeys(pipeline.pretrain[start].corpus for start in starts):
        corpus = pipeline.preprocess.get(its)
        if corpus is None or corpus.split == run.split:
            continue
        learned = [pipeline.datasets.get(dataset) for dataset in corpus.datasets]
        if not any(dataset and dataset.same_cells(tested) for dataset in learned):
            continue
        if split.method == "no_split" and corpus.split:
            continue
        tested_on = "control cells" if split.method == "no_split" else "perturbations"
        found.append(
            f"finetune.{name} is tested on {tested_on} of {run.dataset} that its encoder has seen: "
            f"preprocess.{its}.split is {corpus.split!r}; expected {run.split!r}"
        )
    return found
