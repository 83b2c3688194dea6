rule build_vocabulary:
    input:
        lambda wildcards: screens(PIPELINE.preprocess[wildcards.corpus].datasets),
    output:
        vocabulary="results/build_vocabulary/{corpus}/vocab.json",
        genes="results/build_vocabulary/{corpus}/genes.tsv",
    log:
        "results/logs/build_vocabulary/{corpus}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.preprocess[wildcards.corpus].vocabulary),
        data=lambda wildcards: content_of(PIPELINE.preprocess[wildcards.corpus].vocabulary.path),
        code=code("build_vocabulary"),
    shell:
        "python -m scripts.build_vocabulary --cells {input} --config {params.config:q}"
        " --out {output.vocabulary} --genes {output.genes} > {log} 2>&1"


rule prepare_cells:
    input:
        cells=lambda wildcards: screens(PIPELINE.preprocess[wildcards.corpus].datasets),
        vocabulary="results/build_vocabulary/{corpus}/vocab.json",
        split=corpus_input("results/split_perturbations/{dataset}/{split}.tsv"),
        controls=corpus_input("results/pair_controls/{dataset}/controls.tsv"),
    output:
        directory("results/prepare_cells/{corpus}"),
    log:
        "results/logs/prepare_cells/{corpus}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.preprocess[wildcards.corpus].cells),
        code=code("prepare_cells"),
    shell:
        "python -m scripts.prepare_cells --cells {input.cells} --vocabulary {input.vocabulary}"
        " --split {input.split} --controls {input.controls} --out {output}"
        " --config {params.config:q} > {log} 2>&1"
