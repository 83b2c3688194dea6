"""Load a finetuned folder with the real scgpt, and compare what it predicts with what we did.

    python -m scripts.verify_scgpt \\
        --checkpoint results/finetune_perturbation/scgpt_demo/checkpoint \\
        --samples results/predict_samples/scgpt_demo/samples.npz --tolerance 1e-4 \\
        --out results/verify_scgpt/scgpt_demo/parity.json

Its Python is .venvs/scgpt/bin/python, which make env NAME=scgpt makes. A weight that scgpt does not
take, or a prediction that differs by more than the tolerance, is an error.
"""

import argparse
import sys
from pathlib import Path

from vcpipe.errors import InputError


def main(argv: list[str] | None = None) -> None:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--checkpoint", type=Path, required=True, help="finetuned folder")
    made.add_argument("--samples", type=Path, required=True, help="npz of predict_samples")
    made.add_argument(
        "--tolerance", type=float, default=1e-4, help="largest difference (default: 1e-4)"
    )
    made.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = made.parse_args(argv)

    from vcpipe.files import write_json
    from vcpipe.training.real_scgpt import verify

    parity = verify(args.checkpoint, args.samples, args.tolerance)
    write_json(args.out, parity)
    print(
        f"scgpt {parity['versions']['scgpt']} took {parity['tensors_loaded']} tensors, "
        f"{parity['weights_loaded']:,} weights; predictions of {parity['num_cells']} cells differ "
        f"by at most {parity['max_abs_difference']:.2g}"
    )


if __name__ == "__main__":
    # Without vcpipe.config, whose packages the env of scgpt lacks.
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
