"""Configurations of other systems in our words, with a reason for everything that is not."""

import re

import pytest
import yaml

from scripts import import_config
from vcpipe.config.importing.interpolation import interpolated
from vcpipe.config.importing.keys import convert, flattened
from vcpipe.config.importing.kinds import KINDS, import_tables
from vcpipe.config.pipeline import Pipeline
from vcpipe.config.reading import PROJECT, merge, model_at, read_pipeline, read_yaml
from vcpipe.errors import InputError

EXAMPLES = PROJECT / "tests/config/imported"


def imported(kind: str, changes: dict | None = None, without: tuple[str, ...] = ()):
    values = merge(read_yaml(EXAMPLES / f"{kind}.yaml"), changes or {})
    for section in without:
        del values[section]
    return convert(KINDS[kind], interpolated(values))


def test_epifoundation_is_peaks_to_genes_of_an_atlas_with_both():
    found = imported("epifoundation")
    made = found.nested()
    run = made["pretrain"]["pretrain_pbmc"]
    assert run["objective"] == "peaks_to_genes"
    assert run["corpus"] == "pretrain_pbmc"
    assert run["optimizer"] == {"lr": 1e-4, "name": "adam"}
    assert run["model"] == {
        **{"hidden_dim": 512, "num_layers": 6, "num_heads": 8, "ffn_dim": 1024, "dropout": 0.15},
        **{"activation": "relu", "norm": "post"},
    }
    assert run["training"]["precision"] == "bf16-mixed"
    assert run["tokenizer"]["binning_method"] == "binary"
    assert "zero_bce" not in run["peaks_to_genes"]["task_weight"]
    assert made["atlases"]["pretrain_pbmc"] == {
        "atac": {"paths": ["/data/train/atac.h5ad"], "layer": "X"},
        "rna": {"paths": ["/data/train/rna.h5ad"], "layer": "X"},
        "batch_key": "batch",
        "cell_type_key": "annot",
    }
    corpus = made["preprocess"]["pretrain_pbmc"]
    assert corpus["vocabulary"]["gene_chromosomes"] == "/data/vocab/gene2chr.json"
    assert corpus["vocabulary"]["special_tokens"]["pad"] == {"token": "<pad>", "value": 2}
    assert made["preprocess"]["pretrain_pbmc_test"]["like"] == "pretrain_pbmc"
    dropped = "\n".join(found.dropped)
    assert "train.resume: False: a run that is started again goes on where it was" in dropped
    assert "train.task_weight.zero_bce: 1.0: it is read where train.model.use_zero" in dropped
    assert "feed-forward layer" in "\n".join(found.changed)


def test_scmodelforge_is_an_objective_by_its_architecture():
    found = imported("scmodelforge")
    made = found.nested()
    run = made["pretrain"]["geneformer_base_v1"]
    assert run["objective"] == "masked_genes"
    assert run["masked_genes"] == {"use_expression_values": True, "pooling": "cls"}
    assert run["tokenizer"]["masking"] == {
        **{"random_replace_ratio": 0.1, "keep_ratio": 0.1, "mask_ratio": 0.15}
    }
    assert run["optimizer"]["lr"] == 1e-4
    assert run["scheduler"] == {
        **{"name": "cosine_warmup", "warmup_steps": 2000, "total_steps": 100000}
    }
    assert made["atlases"]["geneformer_base_v1"]["rna"]["paths"][0] == "data/pbmc_10k.h5ad"
    assert made["preprocess"]["geneformer_base_v1"]["cell_split"] == {"val": 0.05}
    assert made["preprocess"]["geneformer_base_v1"]["vocabulary"] == {"join": "intersection"}
    dropped = "\n".join(found.dropped)
    for key in ("training.num_gpus: 4", "finetune.lora.rank: 8", "data.gene_vocab", "decoder_dim"):
        assert key in dropped


def test_a_file_with_paths_alone_gets_their_defaults_where_ours_differ():
    found = convert(KINDS["scmodelforge"], {"data": {"paths": ["a.h5ad"]}}, run="small")
    run = found.nested()["pretrain"]["small"]
    assert run["model"]["ffn_dim"] == 2048
    assert (run["training"]["max_epochs"], run["optimizer"]["name"]) == (10, "adamw")
    assert run["tokenizer"] == {
        **{"strategy": "rank_value", "max_genes": 2048},
        "masking": {"random_replace_ratio": 0.1, "keep_ratio": 0.1, "mask_ratio": 0.15},
    }
    assert not found.dropped


def test_the_other_architectures_have_settings_of_their_own():
    decoder = {"architecture": "masked_autoencoder", "pretraining_task": "masked_value"}
    run = imported("scmodelforge", {"model": decoder}).nested()["pretrain"]["geneformer_base_v1"]
    assert run["masked_autoencoder"]["decoder_layers"] == 4
    assert run["masked_autoencoder"]["mask_ratio"] == 0.15
    assert "masking" not in run["tokenizer"]
    causal = {"architecture": "autoregressive_transformer", "pretraining_task": "next_token"}
    run = imported("scmodelforge", {"model": causal}).nested()["pretrain"]["geneformer_base_v1"]
    assert run["next_genes"]["expression_loss_weight"] == 0  # ranks have no bins


def test_a_census_is_an_atlas_of_its_own_and_no_scheduler_is_a_constant_rate():
    changes = {
        "data": {"source": "cellxgene_census", "census": {"filters": {"tissue": ["brain"]}}},
        "training": {"scheduler": None},
    }
    values = merge(read_yaml(EXAMPLES / "scmodelforge.yaml"), changes)
    made = convert(KINDS["scmodelforge"], values).nested()
    assert made["atlases"]["geneformer_base_v1"] == {
        "census": {
            **{"organism": "Homo sapiens", "census_version": "latest"},
            "filters": {"tissue": ["brain"]},
        }
    }
    assert made["pretrain"]["geneformer_base_v1"]["scheduler"] == {"name": "constant"}
    read_pipeline(values={"atlases": made["atlases"]})


def test_scconcept_is_an_atlas_for_each_source_and_tables_for_each_species():
    found = imported("scconcept")
    made = found.nested()
    assert made["atlases"] == {
        "cellxgene": {
            "rna": {
                "paths": [
                    "/project/data/cellxgene/h5ads/lung.h5ad",
                    "/project/data/cellxgene/h5ads/heart.h5ad",
                ]
            },
            "species": "hsapiens",
        },
        "cellxgene_val": {
            "rna": {"paths": ["/project/data/cellxgene/h5ads/liver.h5ad"]},
            "species": "hsapiens",
        },
        "mouse_atlas": {"rna": {"paths": ["/elsewhere/whole.h5ad"]}, "species": "mmusculus"},
    }
    corpus, run = made["preprocess"]["two_species"], made["pretrain"]["two_species"]
    assert corpus["atlases"] == ["cellxgene", "mouse_atlas"]
    folder = "/project/references/vocabulary/token_mappings_per_specie"
    assert corpus["vocabulary"]["genes"] == {
        name: f"{folder}/{name}.csv" for name in ("hsapiens", "mmusculus")
    }
    assert corpus["store"] == {"group_by": ["batch"]}
    assert run["loading"] == {"strategy": "within_group"}
    assert run["scheduler"] == {"name": "constant", "warmup_steps": 10000}
    assert run["contrastive"]["panels"]["folder"] == "/project/panels"
    assert run["contrastive"]["panels"]["panel_overlap"] == 0.0
    assert run["training"]["logger"] == "wandb"
    assert "set pretrain.<run>.training.max_epochs" in "\n".join(found.changed)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("epifoundation", {"train": {"lrr": 1}}, "train.lrr is no key of .* mean 'train.lr'"),
        ("epifoundation", {"train": {"amp": "fp8"}}, "train.amp is 'fp8'; expected True or False"),
        (
            "epifoundation",
            {"data": {"train": {"rna_key": "X_binned"}}},
            "data.train.rna_key: 'X_binned' cannot be taken over: counts must be raw",
        ),
        (
            "epifoundation",
            {"train": {"model": {"embedding_method": "esm"}}},
            "embedding_method: 'esm' cannot be taken over: .* Expected 'id_only'",
        ),
        (
            "scmodelforge",
            {"model": {"architecture": "transformer_encodr"}},
            "expected 'transformer_encoder' or .* Did you mean 'transformer_encoder'",
        ),
        ("scmodelforge", {"model": {"mask_ratio": 0.3}}, "mask_ratio is 0.3 and tokenizer.mask"),
        (
            "scmodelforge",
            {"data": {"max_genes": 512}},
            "data.max_genes gives 512 and tokenizer.max_genes gives 2048|tokenizer.max_genes gives",
        ),
        ("scmodelforge", {"model": {"max_seq_len": 100}}, "max_seq_len is 100 and tokenizer.max"),
        ("scmodelforge", {"training": {"strategy": "ddp_spawn"}}, "strategy is 'ddp_spawn'"),
        (
            "scmodelforge",
            {"model": {"pretraining_task": "next_token"}},
            "pretraining_task is 'next_token' and model.architecture is 'transformer_encoder'",
        ),
        ("scmodelforge", {"model": {"pooling_type": 1}}, "did you mean 'model.pooling'"),
        (
            "scconcept",
            {"model": {"contrastive_loss": "binary"}},
            "'binary' cannot be taken over: InfoNCE is the only contrast",
        ),
        (
            "scconcept",
            {"datamodule": {"dataset": {"train": {"split": ["split_v1"]}}}},
            "expected the resolved configuration",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_with_its_name(kind, changes, message):
    with pytest.raises(InputError, match=message):
        imported(kind, changes)


def test_a_reference_to_nothing_is_refused():
    with pytest.raises(InputError, match=r"\$\{PATH.ROOT\} stands for nothing"):
        interpolated({"PATH": {"PANELS": "${PATH.ROOT}/panels"}})
    with pytest.raises(InputError, match="lead in a circle"):
        interpolated({"a": "${b}x", "b": "${a}x"})


def test_numbers_that_yaml_reads_as_text_are_numbers():
    values = yaml.safe_load("{lr: 1e-4, steps: '2000', name: adam, epochs: 3, path: 1e.h5ad}")
    assert flattened(values, ()) == {
        **{"lr": 1e-4, "steps": 2000, "name": "adam", "epochs": 3, "path": "1e.h5ad"}
    }


@pytest.mark.parametrize("kind", KINDS)
def test_yaml_in_yaml_out(kind, tmp_path, capsys):
    out = tmp_path / "ours.yaml"
    import_config.main([str(EXAMPLES / f"{kind}.yaml"), f"--kind={kind}", f"--out={out}"])
    made = read_yaml(out)
    assert made == yaml.safe_load(yaml.safe_dump(imported(kind).nested()))
    said = capsys.readouterr().out
    assert "reads differently: " in said
    assert "dropped: " in said


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_are_right_configurations(kind):
    read_pipeline(values=imported(kind).nested())


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_the_tables_exists_here(kind):
    wanted = [key.ours for key in KINDS[kind].keys.values() if key.ours and not key.in_finish]
    for key in [*wanted, *KINDS[kind].fixed]:
        parts = re.sub(r"<\w+>", "name", key).split(".")
        if parts[-2] in ("genes", "gene_embeddings"):
            parts.pop()
        assert parts[-1] in model_at(Pipeline, parts[:-1]).model_fields, key


def test_every_key_stands_in_the_table_with_a_key_or_a_reason():
    text = import_tables()
    for kind in KINDS.values():
        for name, key in kind.keys.items():
            assert f"`{name}`" in text
            assert key.ours or key.why, name


# The examples of both guides, whole; what stands in a file but is dropped, by section.
PAGES = {
    "epifoundation": {
        "pretraining": {"train.resume", "train.model.pretrained", "data.append_cls"},
        "finetuning": {"train.resume", "data.append_cls"},
        "evaluation": {"train.resume", "data.append_cls"},
    },
    "scmodelforge": {
        "complete": {
            *("data.gene_vocab", "data.num_workers", "data.preprocessing.hvg_selection"),
            *("data.census.organism", "data.census.census_version", "data.census.filters"),
            *("data.census.obs_columns", "tokenizer.gene_vocab", "tokenizer.n_bins"),
            *("tokenizer.binning_method", "tokenizer.embedding_path", "tokenizer.embedding_dim"),
            *("model.max_seq_len", "model.pretraining_task", "model.vocab_size", "model.n_bins"),
            *("model.gene_loss_weight", "model.expression_loss_weight", "model.decoder_dim"),
            *("model.decoder_layers", "model.decoder_heads", "training.num_gpus"),
            *("training.log_dir", "training.checkpoint_dir", "training.num_workers"),
            *("training.resume_from", "eval.every_n_epochs", "eval.benchmarks", "finetune"),
        },
        "minimal": {"training.wandb_project"},
        "architecture": set(),
        "finetuning": {"finetune"},
        "census": {"training.wandb_project"},
        "data": {"data.gene_vocab", "data.num_workers", "data.preprocessing.hvg_selection"},
        "census_section": set(),
        "rank_value": set(),
        "binned_expression": set(),
        "gene_embedding": set(),
        "model": {"model.max_seq_len", "model.pretraining_task"},
        "training": {"training.num_gpus", "training.checkpoint_dir"},
        "eval": {"eval.every_n_epochs", "eval.benchmarks"},
        "finetune_section": {"finetune"},
        "lora": {"finetune"},
    },
}
# What the shorter examples leave to others: "... rest similar to pretraining", or the cells.
REST = {
    "epifoundation": read_yaml(EXAMPLES / "pages/epifoundation/pretraining.yaml"),
    "scmodelforge": {"data": {"paths": ["data/pbmc_3k.h5ad"]}},
}
# Examples that name no cells are refused, as their systems would refuse them.
WITHOUT_CELLS = {
    "epifoundation": ("finetuning", "evaluation"),
    "scmodelforge": (
        *("rank_value", "binned_expression", "gene_embedding", "model", "training", "eval"),
        *("finetune_section", "lora"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "page"), [(kind, page) for kind, pages in PAGES.items() for page in pages]
)
def test_of_a_guides_example_every_key_acts_or_is_dropped_with_a_reason(kind, page):
    given = read_yaml(EXAMPLES / f"pages/{kind}/{page}.yaml")
    is_whole = page not in WITHOUT_CELLS[kind]
    if not is_whole:
        with pytest.raises(InputError, match=r"^data\..* expected"):
            convert(KINDS[kind], given)
    whole = given if is_whole else merge(REST[kind], given)
    found = convert(KINDS[kind], whole)
    read_pipeline(values=found.nested())

    dropped = {line.partition(":")[0] for line in found.dropped}
    # Of finetuning nothing acts, whatever stands there.
    assert {re.sub(r"^finetune\..*", "finetune", name) for name in dropped} == PAGES[kind][page]
    acting = {
        name
        for name, key in KINDS[kind].keys.items()
        if key.in_finish or key.ours in found.ours or name in found.origin.values()
    }
    assert set(flattened(given, KINDS[kind].free)) <= acting | dropped


@pytest.mark.parametrize(
    ("kind", "page"), [("epifoundation", "pretraining"), ("scmodelforge", "complete")]
)
def test_the_script_turns_a_guides_example_into_a_file_and_says_what_it_dropped(
    kind, page, tmp_path, capsys
):
    path, out = EXAMPLES / f"pages/{kind}/{page}.yaml", tmp_path / "ours.yaml"
    import_config.main([str(path), f"--kind={kind}", f"--out={out}"])
    found = convert(KINDS[kind], read_yaml(path))
    assert read_yaml(out) == found.nested()
    said = capsys.readouterr().out
    assert "\n  ".join([f"dropped: {len(found.dropped)}", *found.dropped]) in said
    assert "still to be corrected" not in said


def test_every_example_of_the_guides_is_tried():
    files = {(path.parent.name, path.stem) for path in (EXAMPLES / "pages").glob("*/*.yaml")}
    assert files == {(kind, page) for kind, pages in PAGES.items() for page in pages}


def test_the_guides_finetuning_is_a_run_that_starts_from_a_folder_and_learns_types():
    given = read_yaml(EXAMPLES / "pages/epifoundation/finetuning.yaml")
    made = convert(KINDS["epifoundation"], merge(REST["epifoundation"], given)).nested()
    run = made["pretrain"]["finetune_celltype"]
    assert run["pretrained"] == "/path/to/pretrain.pth"
    assert run["peaks_to_genes"]["task_weight"] == {"cell_type": 1.0, "mvc": 0.0}
    assert (run["optimizer"]["lr"], run["training"]["max_epochs"]) == (5e-5, 50)


def test_the_guides_census_is_a_query_of_an_atlas():
    given = read_yaml(EXAMPLES / "pages/scmodelforge/census.yaml")
    made = convert(KINDS["scmodelforge"], given, run="brain").nested()
    assert made["atlases"]["brain"]["census"] == given["data"]["census"]
    assert made["pretrain"]["brain"]["training"]["max_epochs"] == 50
