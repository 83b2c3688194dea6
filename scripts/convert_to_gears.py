"""Convert raw counts of a perturbation screen to the h5ad that GEARS and scGPT read.

Reads an h5ad (CSR or dense) in chunks of cells, so it needs little memory; CSC, which has no rows
on disk, is read whole. The column of the perturbed genes and the label of controls are found where
dataset.perturbation_key and dataset.control_label are not given, if nothing else is possible. A
wrong file is refused with what is wrong and nothing is written. Writes

  obs   condition (ctrl, GENE+ctrl, A+B), cell_type, batch, control, dose_val, condition_name,
        and the columns that were there
  var   gene_name, and the columns that were there; the index is gene_name, too
  X     log1p(counts × target_sum / counts of the cell); raw counts stay in layers['counts']
  uns   rank_genes_groups_cov_all (Welch's t against the control cells of the cell type) and the
        other four dictionaries of cell-gears 0.1.2; vcpipe: settings and a digest of the data

and a report with the same digest, numbers of cells, and what was found and dropped. Settings that
begin with `dataset.` are those of one datasets.<name> in config/config.yaml.

  python -m scripts.convert_to_gears --cells raw.h5ad --name demo \\
      --out results/convert_to_gears/demo/perturb_processed.h5ad \\
      --report results/convert_to_gears/demo/conversion.json dataset.perturbation_key=gene
"""

from pathlib import Path

from vcpipe.config.arguments import parse, parser, run
from vcpipe.config.gears import Conversion


def main(argv: list[str] | None = None) -> None:
    made = parser(__doc__, Conversion)
    made.add_argument("--cells", type=Path, required=True, help="h5ad with raw counts")
    made.add_argument("--name", required=True, help="name of the dataset, for messages and report")
    made.add_argument("--out", type=Path, required=True, help="perturb_processed.h5ad to write")
    made.add_argument("--report", type=Path, required=True, help="conversion.json to write")
    args = parse(made, argv)

    from vcpipe.data.gears import convert
    from vcpipe.files import write_json

    about = convert(args.cells, args.name, args.config, args.out)
    write_json(args.report, about)
    print(
        f"{args.name}: {about['num_cells']} cells ({about['num_control_cells']} control) × "
        f"{about['num_genes']} genes, {about['num_perturbations']} perturbations -> {args.out}"
    )
    if about["detected"]:
        found = ", ".join(f"{key} {value}" for key, value in about["detected"].items())
        print(f"found by its labels: {found}")
    if about["renamed_cell_types"]:
        renamed = [f"{old} -> {new}" for old, new in about["renamed_cell_types"].items()]
        print(f"cell types renamed: {', '.join(renamed)}")
    if about["dropped_labels"]:
        print(f"left out: {about['dropped_labels']} (cells of each label in drop_labels)")
    if about["dropped_cells"]:
        print(f"dropped: {about['dropped_cells']} (cells of each condition)")
    if about["unknown_targets"]:
        print(f"perturbed but not measured: {', '.join(about['unknown_targets'])}")
    if about["replaced_columns"]:
        print(f"columns of the input replaced by ours: {', '.join(about['replaced_columns'])}")


if __name__ == "__main__":
    run(main)
