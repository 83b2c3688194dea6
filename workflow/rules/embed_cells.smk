# By naming the target: results/embed_cells/{run}/{cells}.h5ad, of any run and any atlas or dataset.


rule embed_cells:
    input:
        model="results/pretrain/{run}/checkpoint",
        cells=cells_to_embed,
    output:
        "results/embed_cells/{run}/{cells}.h5ad",
    log:
        "results/logs/embed_cells/{run}/{cells}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.pretrain),
        cells=one_of([*PIPELINE.atlases, *PIPELINE.datasets]),
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=1,
    params:
        config=settings(PIPELINE.eval.embedding),
        atlas=lambda wildcards: settings(atlas_to_embed(wildcards)),
        data=content_to_embed,
        code=code("embed_cells"),
    shell:
        "python -m scripts.embed_cells --model {input.model} --run {wildcards.run}"
        " --atlas {params.atlas:q} --config {params.config:q} --devices {resources.gpu}"
        " --out {output} > {log} 2>&1"


rule plot_embeddings:
    input:
        "results/embed_cells/{run}/{cells}.h5ad",
    output:
        report(
            directory("results/plot_embeddings/{run}/{cells}"),
            patterns=["{label}.svg"],
            category="Embeddings",
            labels={"run": "{run}", "cells": "{cells}", "coloured by": "{label}"},
            caption="../report/embeddings.rst",
        ),
    log:
        "results/logs/plot_embeddings/{run}/{cells}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.pretrain),
        cells=one_of([*PIPELINE.atlases, *PIPELINE.datasets]),
    conda:
        "../../envs/report.yaml"
    params:
        config=settings(PIPELINE.eval.embedding_plot),
        code=code("plot_embeddings"),
    shell:
        "python -m scripts.plot_embeddings --embeddings {input} --config {params.config:q}"
        ' --title "{wildcards.cells}, {wildcards.run}" --out {output} > {log} 2>&1'
