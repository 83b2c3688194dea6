rule pretrain:
    input:
        vocabulary=lambda wildcards: "results/build_vocabulary/"
        f"{PIPELINE.pretrain[wildcards.run].corpus}",
        fitted=lambda wildcards: "results/fit_preprocessing/"
        f"{PIPELINE.pretrain[wildcards.run].corpus}",
        store=lambda wildcards: "results/prepare_cells/"
        f"{PIPELINE.pretrain[wildcards.run].corpus}",
        pretrained=folder_to_start_from,
    output:
        folder=directory("results/pretrain/{run}/checkpoint"),
        metrics="results/pretrain/{run}/metrics.csv",
    log:
        "results/logs/pretrain/{run}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.pretrain),
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=1,
    params:
        config=lambda wildcards: settings(PIPELINE.pretrain[wildcards.run]),
        data=lambda wildcards: content_read_by(wildcards) + content_of_pretrained(wildcards),
        # Not an output: Snakemake deletes the outputs of a failed job, and a retry goes on from here.
        state="results/.checkpoints/pretrain/{run}",
        code=code("pretrain"),
    shell:
        "launch {resources.gpu} -m scripts.pretrain --devices {resources.gpu}"
        " --threads {threads}"
        " --store {input.store} --vocabulary {input.vocabulary} --fitted {input.fitted}"
        " --config {params.config:q}"
        " --state {params.state} --out {output.folder} --metrics {output.metrics} > {log} 2>&1"


# By naming the target: every run of the configuration.
rule compare_pretraining:
    input:
        runs=[f"results/pretrain/{run}/checkpoint" for run in PIPELINE.pretrain],
        logs=[f"results/pretrain/{run}/metrics.csv" for run in PIPELINE.pretrain],
    output:
        table=report(
            "results/pretrain/comparison.csv",
            category="Pretraining",
            labels={"what": "all runs", "form": "csv"},
            caption="../report/pretraining.rst",
        ),
        curves=report(
            "results/pretrain/loss_curves.svg",
            category="Pretraining",
            labels={"what": "loss curves", "form": "svg"},
            caption="../report/pretraining.rst",
        ),
    log:
        "results/logs/compare_pretraining/comparison.log",
    conda:
        "../../envs/report.yaml"
    params:
        code=code("compare_pretraining"),
    shell:
        "python -m scripts.compare_pretraining --runs {input.runs} --logs {input.logs}"
        " --out {output.table} --curves {output.curves} > {log} 2>&1"
