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


rule predict_samples:
    input:
        cells=finetune_input("results/convert_to_gears/{dataset}/perturb_processed.h5ad"),
        split=finetune_input("results/split_perturbations/{dataset}/{split}.tsv"),
        controls=finetune_input("results/pair_controls/{dataset}/controls.tsv"),
        folder="results/finetune_perturbation/{run}/checkpoint",
    output:
        "results/predict_samples/{run}/samples.npz",
    log:
        "results/logs/predict_samples/{run}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.finetune),
    conda:
        "../../envs/train.yaml"
    params:
        config=settings(PIPELINE.eval.verification),
        code=code("predict_samples"),
    shell:
        "python -m scripts.predict_samples --cells {input.cells} --split {input.split}"
        " --controls {input.controls} --checkpoint {input.folder} --config {params.config:q}"
        " --out {output} > {log} 2>&1"


# Made by naming it: the real scgpt needs an env of its own (make env NAME=scgpt).
rule verify_scgpt:
    input:
        samples="results/predict_samples/{run}/samples.npz",
        folder="results/finetune_perturbation/{run}/checkpoint",
    output:
        report(
            "results/verify_scgpt/{run}/parity.json",
            category="Models",
            labels={"run": "{run}", "what": "the real scgpt beside ours", "form": "json"},
            caption="../report/scgpt_parity.rst",
        ),
    log:
        "results/logs/verify_scgpt/{run}.log",
    wildcard_constraints:
        run=one_of(PIPELINE.finetune),
    conda:
        "../../envs/scgpt.yaml"
    params:
        tolerance=PIPELINE.eval.verification.tolerance,
        code=code("verify_scgpt"),
    shell:
        "in_env scgpt python -m scripts.verify_scgpt --checkpoint {input.folder}"
        " --samples {input.samples} --tolerance {params.tolerance} --out {output} > {log} 2>&1"
