rule fit_baseline:
    input:
        cells="results/convert_to_gears/{dataset}/perturb_processed.h5ad",
        split="results/split_perturbations/{dataset}/{split}.tsv",
        controls="results/pair_controls/{dataset}/controls.tsv",
    output:
        "results/fit_baseline/{dataset}/{split}/{baseline}.npz",
    log:
        "results/logs/fit_baseline/{dataset}/{split}/{baseline}.log",
    conda:
        "../../envs/evaluate.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.eval.baselines.only(wildcards.baseline)),
        code=code("fit_baseline"),
    shell:
        "python -m scripts.fit_baseline --cells {input.cells} --split {input.split}"
        " --controls {input.controls} --baseline {wildcards.baseline}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule predict_perturbations:
    input:
        cells="results/convert_to_gears/{dataset}/perturb_processed.h5ad",
        split=split_to_predict,
        controls="results/pair_controls/{dataset}/controls.tsv",
        model=model_of,
    output:
        "results/predict_perturbations/{dataset}/{targets}/{model}.h5ad",
    log:
        "results/logs/predict_perturbations/{dataset}/{targets}/{model}.log",
    wildcard_constraints:
        targets=one_of([*PIPELINE.splits, *PIPELINE.target_lists]),
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=lambda wildcards: 0 if wildcards.model in BASELINES else 1,
    params:
        config=settings(PIPELINE.eval.prediction),
        targets=list_to_predict,
        data=content_of_targets,
        code=code("predict_perturbations"),
    shell:
        "python -m scripts.predict_perturbations --devices {resources.gpu} --cells {input.cells}"
        " --split {input.split} --controls {input.controls} --model {input.model:q}"
        " {params.targets} --name {wildcards.model} --config {params.config:q}"
        " --out {output} > {log} 2>&1"


rule average_predictions:
    input:
        lambda wildcards: [
            f"results/predict_perturbations/{{dataset}}/{{targets}}/{member}.h5ad"
            for member in ENSEMBLES[wildcards.ensemble]
        ],
    output:
        "results/average_predictions/{dataset}/{targets}/{ensemble}.h5ad",
    log:
        "results/logs/average_predictions/{dataset}/{targets}/{ensemble}.log",
    wildcard_constraints:
        targets=one_of([*PIPELINE.splits, *PIPELINE.target_lists]),
    conda:
        "../../envs/evaluate.yaml"
    params:
        config=settings(PIPELINE.eval.prediction),
        code=code("average_predictions"),
    shell:
        "python -m scripts.average_predictions --predictions {input}"
        " --name {wildcards.ensemble} --config {params.config:q} --out {output} > {log} 2>&1"


rule package_submission:
    input:
        predictions=predictions_of,
        cells="results/convert_to_gears/{dataset}/perturb_processed.h5ad",
    output:
        submission="results/package_submission/{dataset}/{targets}/{model}.vcc",
        checks=report(
            "results/package_submission/{dataset}/{targets}/{model}.tsv",
            category="Submissions",
            labels={"dataset": "{dataset}", "list": "{targets}", "model": "{model}"},
            caption="../report/submissions.rst",
        ),
    log:
        "results/logs/package_submission/{dataset}/{targets}/{model}.log",
    wildcard_constraints:
        targets=one_of(PIPELINE.target_lists),
    conda:
        "../../envs/cell_eval.yaml"
    params:
        config=settings(PIPELINE.eval.submission),
        files=files_of_list,
        data=content_of_list,
        code=code("package_submission"),
    shell:
        "in_env cell_eval python -m scripts.package_submission --predictions {input.predictions}"
        " --cells {input.cells} {params.files} --config {params.config:q}"
        " --out {output.submission} --checks {output.checks} > {log} 2>&1"


rule score_perturbations:
    input:
        predictions=predictions_of,
        cells="results/convert_to_gears/{dataset}/perturb_processed.h5ad",
        split="results/split_perturbations/{dataset}/{split}.tsv",
        controls="results/pair_controls/{dataset}/controls.tsv",
    output:
        directory("results/score_perturbations/{dataset}/{split}/{model}"),
    log:
        "results/logs/score_perturbations/{dataset}/{split}/{model}.log",
    conda:
        "../../envs/evaluate.yaml"
    params:
        config=settings(PIPELINE.eval.scoring),
        code=code("score_perturbations"),
    shell:
        "python -m scripts.score_perturbations --predictions {input.predictions}"
        " --cells {input.cells} --split {input.split} --controls {input.controls}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule summarise:
    input:
        scores=[
            f"results/score_perturbations/{dataset}/{split}/{model}"
            for dataset, split, model in scored_models()
        ],
        logs=[
            *(f"results/pretrain/{run}/metrics.csv" for run in PRETRAINED_HERE),
            *(f"results/finetune_perturbation/{run}/metrics.csv" for run in PIPELINE.finetune),
        ],
        matches=[f"results/match_genes/{run}/summary.tsv" for run in PIPELINE.finetune],
        corpora=[f"results/check_corpus/{corpus}" for corpus in CORPORA_HERE],
        checks=[
            f"results/check_dataset/{dataset}"
            for dataset in sorted({dataset for dataset, _, _ in scored_models()})
        ],
    output:
        # The same names for every configuration: Snakemake judges a job by the history of its
        # outputs, and another configuration must not find a finished summary under new names.
        summary=report(
            "results/eval/summary.csv",
            category="Overview",
            labels={"what": "all scores", "form": "csv"},
            caption="../report/summary.rst",
        ),
        verdicts=report(
            "results/eval/verdicts.tsv",
            category="Overview",
            labels={"what": "models against the best baseline", "form": "tsv"},
            caption="../report/verdicts.rst",
        ),
        table=report(
            "results/eval/summary.html",
            category="Overview",
            labels={"what": "sortable table", "form": "html"},
            caption="../report/summary.rst",
        ),
        checks=report(
            "results/eval/data_checks.tsv",
            category="Data",
            labels={"dataset": "all", "what": "data checks", "form": "tsv"},
            caption="../report/data_checks.rst",
        ),
        losses=report(
            "results/eval/loss_curves.svg",
            category="Training",
            labels={"figure": "loss curves"},
            caption="../report/training.rst",
        ),
        figures=report(
            directory("results/eval/figures"),
            patterns=["{dataset}/{split}/{figure}.svg"],
            category="Scores",
            labels={"dataset": "{dataset}", "split": "{split}", "figure": "{figure}"},
            caption="../report/figures.rst",
        ),
        genes=report(
            "results/eval/gene_matches.tsv",
            category="Data",
            labels={"what": "genes found in the vocabulary", "form": "tsv"},
            caption="../report/genes.rst",
        ),
    log:
        "results/logs/summarise/summary.log",
    conda:
        "../../envs/report.yaml"
    params:
        config=settings(PIPELINE.eval.summary),
        code=code("summarise"),
    shell:
        "python -m scripts.summarise --scores {input.scores} --logs {input.logs}"
        " --checks {input.checks} --checked {output.checks}"
        " --config {params.config:q} --out {output.summary} --verdicts {output.verdicts}"
        " --table {output.table} --losses {output.losses} --figures {output.figures}"
        " --matches {input.matches} --genes {output.genes} > {log} 2>&1"
