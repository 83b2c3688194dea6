# A corpus is made of converted screens and of atlases, whose files no rule of ours writes (or one of
# atlases.smk): their content is a parameter, so that a touch makes nothing anew.


rule build_vocabulary:
    input:
        screens=lambda wildcards: screens(PIPELINE.preprocess[wildcards.corpus].datasets),
        fetched=fetched_atlases,
    output:
        directory("results/build_vocabulary/{corpus}"),
    log:
        "results/logs/build_vocabulary/{corpus}.log",
    # With torch, which reads vectors of genes from .pt.
    conda:
        "../../envs/train.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.preprocess[wildcards.corpus].vocabulary),
        atlases=lambda wildcards: settings(atlases_of(wildcards)),
        data=lambda wildcards: content_of_atlases(wildcards) + content_of_names(wildcards),
        aliases=lambda wildcards: aliases_of(PIPELINE.preprocess[wildcards.corpus].vocabulary),
        code=code("build_vocabulary"),
    shell:
        "python -m scripts.build_vocabulary --screens {input.screens} --atlases {params.atlases:q}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule fit_preprocessing:
    input:
        screens=lambda wildcards: screens(PIPELINE.preprocess[wildcards.corpus].datasets),
        fetched=fetched_atlases,
        split=corpus_input("results/split_perturbations/{dataset}/{split}.tsv"),
        controls=corpus_input("results/pair_controls/{dataset}/controls.tsv"),
        vocabulary="results/build_vocabulary/{corpus}",
    output:
        directory("results/fit_preprocessing/{corpus}"),
    log:
        "results/logs/fit_preprocessing/{corpus}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.preprocess[wildcards.corpus].fitting()),
        atlases=lambda wildcards: settings(atlases_of(wildcards)),
        data=content_of_atlases,
        hvgs=lambda wildcards: content_of(PIPELINE.preprocess[wildcards.corpus].fit.hvg_file()),
        code=code("fit_preprocessing"),
    shell:
        "python -m scripts.fit_preprocessing --screens {input.screens} --split {input.split}"
        " --controls {input.controls} --atlases {params.atlases:q} --vocabulary {input.vocabulary}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule prepare_cells:
    input:
        screens=lambda wildcards: screens(PIPELINE.preprocess[wildcards.corpus].datasets),
        fetched=fetched_atlases,
        split=corpus_input("results/split_perturbations/{dataset}/{split}.tsv"),
        controls=corpus_input("results/pair_controls/{dataset}/controls.tsv"),
        vocabulary=fitted_as("results/build_vocabulary/{corpus}"),
        fitted=fitted_as("results/fit_preprocessing/{corpus}"),
    output:
        directory("results/prepare_cells/{corpus}"),
    log:
        "results/logs/prepare_cells/{corpus}.log",
    conda:
        "../../envs/data.yaml"
    threads: 2
    params:
        config=lambda wildcards: settings(PIPELINE.preprocess[wildcards.corpus].store),
        atlases=lambda wildcards: settings(atlases_of(wildcards)),
        data=content_of_atlases,
        new=lambda wildcards: "--new" if PIPELINE.preprocess[wildcards.corpus].like else "",
        code=code("prepare_cells"),
    shell:
        "python -m scripts.prepare_cells --screens {input.screens} --split {input.split}"
        " --controls {input.controls} --atlases {params.atlases:q} --vocabulary {input.vocabulary}"
        " --fitted {input.fitted} --config {params.config:q} --threads {threads} {params.new}"
        " --out {output} > {log} 2>&1"


rule check_corpus:
    input:
        fitted=fitted_as("results/fit_preprocessing/{corpus}"),
        store="results/prepare_cells/{corpus}",
    output:
        report(
            directory("results/check_corpus/{corpus}"),
            patterns=["{what}.{form}"],
            category="Data",
            labels={"dataset": "{corpus}", "what": "{what}", "form": "{form}"},
            caption="../report/corpora.rst",
        ),
    log:
        "results/logs/check_corpus/{corpus}.log",
    conda:
        "../../envs/report.yaml"
    params:
        config=lambda wildcards: settings(tokenizers_of(wildcards)),
        code=code("check_corpus"),
    shell:
        "python -m scripts.check_corpus --fitted {input.fitted} --store {input.store}"
        " --config {params.config:q} --out {output} > {log} 2>&1"
