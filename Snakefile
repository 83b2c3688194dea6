"""vcpipe: from single-cell data to a scored virtual-cell model. Start with README.md."""

from snakemake.utils import min_version

min_version("9.8")


# A configuration given with --configfile replaces the default one; --config set=... only changes it.
if not set(config) - {"set"}:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/atlases.smk"
include: "workflow/rules/gears.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/embed_cells.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/loader.smk"


rule all:
    input:
        EVERYTHING,
