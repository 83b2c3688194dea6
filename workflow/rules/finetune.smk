rule finetune_perturbation:
    input:
        cells=finetune_input("results/convert_to_gears/{dataset}/perturb_processed.h5ad"),
        split=finetune_input("results/split_perturbations/{dataset}/{split}.tsv"),
        controls=finetune_input("results/pair_controls/{dataset}/controls.tsv"),
        pairs=finetune_input("results/pair_controls/{dataset}/pairs.npz"),
        pretrained=pretrained_folder,
    output:
        folder=directory("results/finetune_perturbation/{run}/checkpoint"),
        metrics="results/finetune_perturbation/{run}/metrics.csv",
    log:
        "results/logs/finetune_perturbation/{run}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.finetune),
    conda:
        "../../envs/train.yaml"
    resources:
        gpu=1,
    params:
        config=lambda wildcards: settings(PIPELINE.finetune[wildcards.run]),
        data=pretrained_content,
        aliases=aliases_of_run,
        state="results/.checkpoints/finetune_perturbation/{run}",
        code=code("finetune_perturbation"),
    shell:
        "launch {resources.gpu} -m scripts.finetune_perturbation --devices {resources.gpu}"
        " --threads {threads}"
        " --cells {input.cells} --split {input.split} --controls {input.controls}"
        " --pairs {input.pairs} --pretrained {input.pretrained:q} --config {params.config:q}"
        " --state {params.state} --out {output.folder} --metrics {output.metrics} > {log} 2>&1"
