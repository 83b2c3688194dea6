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


rule pair_controls:
    input:
        "results/convert_to_gears/{dataset}/perturb_processed.h5ad",
    output:
        controls="results/pair_controls/{dataset}/controls.tsv",
        pairs="results/pair_controls/{dataset}/pairs.npz",
    log:
        "results/logs/pair_controls/{dataset}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=settings(PIPELINE.gears.pairing),
        code=code("pair_controls"),
    shell:
        "python -m scripts.pair_controls --cells {input} --config {params.config:q}"
        " --controls {output.controls} --pairs {output.pairs} > {log} 2>&1"


rule check_dataset:
    input:
        "results/convert_to_gears/{dataset}/perturb_processed.h5ad",
    output:
        report(
            directory("results/check_dataset/{dataset}"),
            patterns=["{what}.{form}"],
            category="Data",
            labels={"dataset": "{dataset}", "what": "{what}", "form": "{form}"},
            caption="../report/checks.rst",
        ),
    log:
        "results/logs/check_dataset/{dataset}.log",
    conda:
        "../../envs/report.yaml"
    params:
        config=lambda wildcards: settings(
            Checked(
                effect=PIPELINE.datasets[wildcards.dataset].effect,
                thresholds=PIPELINE.checks,
            )
        ),
        code=code("check_dataset"),
    shell:
        "python -m scripts.check_dataset --cells {input} --config {params.config:q}"
        " --out {output} > {log} 2>&1"


rule split_perturbations:
    input:
        "results/convert_to_gears/{dataset}/perturb_processed.h5ad",
    output:
        table="results/split_perturbations/{dataset}/{split}.tsv",
        pickle="results/convert_to_gears/{dataset}/splits/{dataset}_{split}.pkl",
        subgroup="results/convert_to_gears/{dataset}/splits/{dataset}_{split}_subgroup.pkl",
    log:
        "results/logs/split_perturbations/{dataset}/{split}.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(PIPELINE.splits[wildcards.split]),
        data=lambda wildcards: [
            content_of(path) for path in PIPELINE.splits[wildcards.split].files().values()
        ],
        code=code("split_perturbations"),
    shell:
        "python -m scripts.split_perturbations --cells {input} --config {params.config:q}"
        " --table {output.table} --pickle {output.pickle} --subgroup {output.subgroup}"
        " > {log} 2>&1"


rule build_cell_graphs:
    input:
        cells="results/convert_to_gears/{dataset}/perturb_processed.h5ad",
        pairs="results/pair_controls/{dataset}/pairs.npz",
    output:
        "results/convert_to_gears/{dataset}/data_pyg/cell_graphs.pkl",
    log:
        "results/logs/build_cell_graphs/{dataset}.log",
    conda:
        "../../envs/graphs.yaml"
    params:
        config=settings(PIPELINE.gears.cell_graphs),
        data=content_of(PIPELINE.gears.cell_graphs.gene2go_file()),
        code=code("build_cell_graphs"),
    shell:
        "python -m scripts.build_cell_graphs --cells {input.cells} --pairs {input.pairs}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule match_genes:
    input:
        cells=finetune_input("results/convert_to_gears/{dataset}/perturb_processed.h5ad"),
        vocabulary=vocabulary_of_run,
    output:
        genes="results/match_genes/{run}/genes.tsv",
        summary="results/match_genes/{run}/summary.tsv",
    log:
        "results/logs/match_genes/{run}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.finetune),
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(
            PIPELINE.finetune[wildcards.run].perturbation.gene_matching()
        ),
        tokens=lambda wildcards, input: (
            input.vocabulary
            if input.vocabulary.endswith(".json")
            else f"{input.vocabulary}/vocab.json"
        ),
        aliases=aliases_of_run,
        code=code("match_genes"),
    shell:
        "python -m scripts.match_genes --cells {input.cells} --vocabulary {params.tokens:q}"
        " --config {params.config:q} --run {wildcards.run} --out {output.genes}"
        " --summary {output.summary} > {log} 2>&1"
