# scDataset's training experiments: results/loader/summary.csv, which nothing else depends on.


include: "loader_inputs.smk"


rule simulate_plates:
    output:
        directory("results/simulate_plates/plates"),
    log:
        "results/logs/simulate_plates/plates.log",
    conda:
        "../../envs/data.yaml"
    params:
        config=lambda wildcards: settings(loader_section().data.simulate),
        code=code("simulate_plates"),
    shell:
        "python -m scripts.simulate_plates --config {params.config:q} --out {output} > {log} 2>&1"


rule shuffle_plates:
    input:
        simulated_plates,
    output:
        directory("results/shuffle_plates/store"),
    log:
        "results/logs/shuffle_plates/store.log",
    conda:
        "../../envs/train.yaml"
    threads: 2
    params:
        config=lambda wildcards: settings(loader_section().training_cells()),
        plates=plates_folder,
        data=content_of_training_plates,
        code=code("shuffle_plates"),
    shell:
        "python -m scripts.shuffle_plates --plates {params.plates:q} --threads {threads}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule collect_plates:
    input:
        simulated_plates,
    output:
        directory("results/collect_plates/plates.zarr"),
    log:
        "results/logs/collect_plates/plates.log",
    conda:
        "../../envs/train.yaml"
    params:
        config=lambda wildcards: settings(loader_section().training_cells()),
        plates=plates_folder,
        data=content_of_training_plates,
        code=code("collect_plates"),
    shell:
        "python -m scripts.collect_plates --plates {params.plates:q}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule loader_experiment:
    input:
        plates=simulated_plates,
        store=rewritten_cells("store", "results/shuffle_plates/store"),
        collection=rewritten_cells("zarr", "results/collect_plates/plates.zarr"),
    output:
        directory("results/loader_experiment/{strategy}"),
    log:
        "results/logs/loader_experiment/{strategy}.log",
    wildcard_constraints:
        strategy=one_of(STRATEGIES),
    conda:
        "../../envs/train.yaml"
    threads: PIPELINE.loader.scdataset.num_workers if PIPELINE.loader else 1
    # Where a profile has one of it, one is measured at a time.
    resources:
        timed=1,
    params:
        config=lambda wildcards: settings(loader_section().only(wildcards.strategy)),
        plates=plates_folder,
        data=content_of_all_plates,
        labels=content_of_labels,
        store=lambda wildcards, input: f"--store {input.store}" if input.store else "",
        collection=lambda wildcards, input: (
            f"--collection {input.collection}" if input.collection else ""
        ),
        code=code("loader_experiment"),
    shell:
        "python -m scripts.loader_experiment --strategy {wildcards.strategy} {params.store}"
        " {params.collection} --plates {params.plates:q} --threads {threads}"
        " --config {params.config:q} --out {output} > {log} 2>&1"


rule summarise_loader:
    input:
        lambda wildcards: [
            f"results/loader_experiment/{strategy}"
            for strategy in loader_section().strategies.enabled()
        ],
    output:
        summary=report(
            "results/loader/summary.csv",
            category="Loading",
            labels={"what": "all runs", "form": "csv"},
            caption="../report/loader.rst",
        ),
        seeds=report(
            "results/loader/over_seeds.tsv",
            category="Loading",
            labels={"what": "means over seeds", "form": "tsv"},
            caption="../report/loader.rst",
        ),
        comparison=report(
            "results/loader/comparison.svg",
            category="Loading",
            labels={"what": "macro-F1 of each task", "form": "svg"},
            caption="../report/loader_comparison.rst",
        ),
        curves=report(
            "results/loader/training_curves.svg",
            category="Loading",
            labels={"what": "loss during training", "form": "svg"},
            caption="../report/loader_curves.rst",
        ),
        times=report(
            "results/loader/time_comparison.svg",
            category="Loading",
            labels={"what": "time", "form": "svg"},
            caption="../report/loader_times.rst",
        ),
        quality=report(
            "results/loader/quality.svg",
            category="Loading",
            labels={"what": "macro-F1 by speed and mixing", "form": "svg"},
            caption="../report/loader_quality.rst",
        ),
    log:
        "results/logs/summarise_loader/summary.log",
    conda:
        "../../envs/report.yaml"
    params:
        code=code("summarise_loader"),
    shell:
        "python -m scripts.summarise_loader --runs {input} --out {output.summary}"
        " --seeds {output.seeds} --comparison {output.comparison} --curves {output.curves}"
        " --times {output.times} --quality {output.quality} > {log} 2>&1"
