# Both run in envs of their own: see in_env in common.smk.
localrules:
    fetch_census,
    fetch_artifact,


rule fetch_census:
    output:
        cells="results/fetch_census/{atlas}/cells.h5ad",
        query="results/fetch_census/{atlas}/query.json",
    log:
        "results/logs/fetch_census/{atlas}.log",
    wildcard_constraints:
        atlas=one_of(name for name, atlas in PIPELINE.atlases.items() if atlas.census),
    conda:
        "../../envs/census.yaml"
    params:
        config=census_of,
        code=code("fetch_census"),
    shell:
        "in_env census python -m scripts.fetch_census --config {params.config:q}"
        " --out {output.cells} --query {output.query} > {log} 2>&1"


rule fetch_artifact:
    output:
        cells="results/fetch_artifact/{atlas}/cells.h5ad",
        artifact="results/fetch_artifact/{atlas}/artifact.json",
    log:
        "results/logs/fetch_artifact/{atlas}.log",
    wildcard_constraints:
        atlas=one_of(name for name, atlas in PIPELINE.atlases.items() if atlas.artifact),
    conda:
        "../../envs/lamindb.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.atlases[wildcards.atlas].artifact),
        code=code("fetch_artifact"),
    shell:
        "in_env lamindb python -m scripts.fetch_artifact --config {params.config:q}"
        " --out {output.cells} --artifact {output.artifact} > {log} 2>&1"
