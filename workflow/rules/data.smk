localrules:
    fetch_dataset,


rule simulate_screen:
    output:
        cells="results/simulate_screen/{dataset}/screen.h5ad",
        truth="results/simulate_screen/{dataset}/truth.h5ad",
        network="results/simulate_screen/{dataset}/network.tsv",
    log:
        "results/logs/simulate_screen/{dataset}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.datasets[wildcards.dataset].simulate),
        symbols=content_of(PROJECT / "resources/gene_symbols.txt"),
        code=code("simulate_screen"),
    shell:
        "python -m scripts.simulate_screen --config {params.config:q} --out {output.cells}"
        " --truth {output.truth} --network {output.network} > {log} 2>&1"


rule simulate_atlas:
    output:
        directory("results/simulate_atlas/{atlas}"),
    log:
        "results/logs/simulate_atlas/{atlas}.log",
    wildcard_constraints:
        atlas=one_of(name for name, atlas in PIPELINE.atlases.items() if atlas.simulate),
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.atlases[wildcards.atlas].simulate),
        species=lambda wildcards: PIPELINE.atlases[wildcards.atlas].species,
        symbols=content_of(PROJECT / "resources/gene_symbols.txt"),
        code=code("simulate_atlas"),
    shell:
        "python -m scripts.simulate_atlas --config {params.config:q} --species {params.species}"
        " --out {output} > {log} 2>&1"


rule fetch_dataset:
    output:
        "results/fetch_dataset/{dataset}/dataset.h5ad",
    log:
        "results/logs/fetch_dataset/{dataset}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.datasets[wildcards.dataset].download),
        code=code("fetch_dataset"),
    shell:
        "python -m scripts.fetch_dataset --config {params.config:q} --out {output} > {log} 2>&1"
