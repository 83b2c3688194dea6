# results/convert_to_gears/{dataset}/ is the folder that GEARS opens, so splits/ and data_pyg/ are
# written into it by the rules that make them.


rule convert_to_gears:
    input:
        raw_cells,
    output:
        cells="results/convert_to_gears/{dataset}/perturb_processed.h5ad",
        report="results/convert_to_gears/{dataset}/conversion.json",
    log:
        "results/logs/convert_to_gears/{dataset}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(
            Conversion(
                dataset=PIPELINE.datasets[wildcards.dataset].columns(),
                normalisation=PIPELINE.gears.normalisation,
            )
        ),
        data=lambda wildcards: content_of(PIPELINE.datasets[wildcards.dataset].path),
        code=code("convert_to_gears"),
    shell:
        "python -m scripts.convert_to_gears --cells {input:q} --name {wildcards.dataset}"
        " --config {params.config:q} --out {output.cells} --report {output.report} > {log} 2>&1"


rule split_perturbations:
    input:
        "results/convert_to_gears/{dataset}/perturb_processed.h5ad",
    output:
        table="results/split_perturbations/{dataset}/{split}.tsv",
        controls="results/split_perturbations/{dataset}/{split}_controls.tsv",
        pickle="results/convert_to_gears/{dataset}/splits/{dataset}_{split}.pkl",
        subgroup="results/convert_to_gears/{dataset}/splits/{dataset}_{split}_subgroup.pkl",
    log:
        "results/logs/split_perturbations/{dataset}/{split}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.splits[wildcards.split]),
        data=lambda wildcards: content_of(PIPELINE.splits[wildcards.split].path),
        code=code("split_perturbations"),
    shell:
        "python -m scripts.split_perturbations --cells {input} --config {params.config:q}"
        " --table {output.table} --controls {output.controls}"
        " --pickle {output.pickle} --subgroup {output.subgroup} > {log} 2>&1"


rule build_cell_graphs:
    input:
        "results/convert_to_gears/{dataset}/perturb_processed.h5ad",
    output:
        "results/convert_to_gears/{dataset}/data_pyg/cell_graphs.pkl",
    log:
        "results/logs/build_cell_graphs/{dataset}.log",
    conda:
        "../../envs/graphs.yaml"
    params:
        config=settings(PIPELINE.gears.cell_graphs),
        data=content_of(PIPELINE.gears.cell_graphs.gene2go),
        code=code("build_cell_graphs"),
    shell:
        "python -m scripts.build_cell_graphs --cells {input} --config {params.config:q}"
        " --out {output} > {log} 2>&1"
