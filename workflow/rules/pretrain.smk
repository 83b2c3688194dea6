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
