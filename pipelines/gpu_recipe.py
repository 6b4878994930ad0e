"""Train on a bare machine with a GPU, in slices of some minutes: pack here, train there, join here.

    python pipelines/gpu_recipe.py pack FOLDER... -o train.pack
    python pipelines/gpu_recipe.py train train.pack --config pipelines/train_rrlnet_gpu.yaml --state state --out slice
    python pipelines/gpu_recipe.py join slice -o runs/gpu --weights weights.safetensors

The second command needs PyTorch, NumPy, OpenCV, safetensors, PyYAML, pydantic and kornia; it is repeated until it
reports that the run is finished. See docs/gpu_recipe.md.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# The package need not be installed on the machine that trains: it lies beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rrl_register.errors import RegistrationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run one of the three steps; return the exit code."""
    args = _parser().parse_args(arguments)
    try:
        args.step(args)
    except RegistrationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        print(f"Error: {error.name} is not installed; carry it there: see docs/gpu_recipe.md", file=sys.stderr)
        return 2
    return 0


def pack(args: argparse.Namespace) -> None:
    """Pack data sets into one file."""
    from gpu_training.pack import write_pack
    from rrl_register.training.bank import Source
    from rrl_register.training.config import load_training_config
    from rrl_register.training.datasets import parse_sources

    sources: list[Source] = []
    for path in args.data:
        is_recipe = path.suffix in (".yaml", ".yml")
        sources += load_training_config(path).data if is_recipe else parse_sources(path)
    done = write_pack(args.output, sources, max_mib=args.max_mib, quality=args.quality, overwrite=args.overwrite)
    print(f"{args.output}: {done.pairs} pairs, {done.size / 2**20:.1f} MiB, quality {done.quality}")


def train(args: argparse.Namespace) -> None:
    """Train one slice and write the files for the next one."""
    from gpu_training.fitting import fit_steps
    from gpu_training.pack import Pack
    from gpu_training.slices import read_slice, write_slice
    from rrl_register.training.config import load_training_config
    from rrl_register.training.loop import CHECKPOINT
    from rrl_register.training.loop import train as run_training

    if args.slice and not (args.state / CHECKPOINT).is_file():
        print(f"resuming after step {read_slice(args.slice, args.state)}", flush=True)
    config = load_training_config(args.config, data=Pack(args.pack), output=str(args.state))
    if args.fit:
        config = fit_steps(config, args.seconds)
        print(f"{config.descriptor_phase.steps} and {config.joint_phase.steps} steps", flush=True)
    finished = run_training(config, args.seconds)
    for file in write_slice(args.state, args.out, finished is not None, args.piece_mib):
        print(f"{file} {file.stat().st_size / 2**20:.1f} MiB")
    print("finished" if finished else "out of time: call again to resume")


def join(args: argparse.Namespace) -> None:
    """Restore a run and export its best weights."""
    from gpu_training.slices import read_slice
    from rrl_register.nn.weights import write_weights
    from rrl_register.training.export import source_weights
    from rrl_register.training.loop import BEST, CHECKPOINT

    with tempfile.TemporaryDirectory() as temporary:
        run = args.output or Path(temporary)
        print(f"{read_slice(args.slice, run)} steps done")
        if args.weights:
            checkpoint = run / (BEST if (run / BEST).is_file() else CHECKPOINT)
            write_weights(args.weights, source_weights(checkpoint, args.name, new_name=args.weights.stem))
            print(args.weights)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True, metavar="STEP")

    step = steps.add_parser("pack", help="data sets into one file (needs rasterio)")
    step.set_defaults(step=pack)
    step.add_argument("data", type=Path, nargs="+", help="folder of pairs, or recipe (.yaml) for its data")
    step.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    step.add_argument("--max-mib", type=float, default=math.inf, help="largest size, MiB (default: no limit)")
    step.add_argument("--quality", type=int, default=90, help="first WebP quality, 1 to 100 (default: 90)")
    step.add_argument("--overwrite", action="store_true", help="replace the output if it exists")

    step = steps.add_parser("train", help="one slice of training (on the machine with the GPU)")
    step.set_defaults(step=train)
    step.add_argument("pack", type=Path, help="file of the step pack")
    step.add_argument("--config", type=Path, required=True, help="recipe; its data and output are not used")
    step.add_argument(
        "--seconds", type=float, default=540.0, help="time to train, without start and end (default: 540)"
    )
    step.add_argument(
        "--fit", action="store_true", help="as many steps as fit into --seconds, in the recipe's proportion; one slice"
    )
    step.add_argument("--state", type=Path, required=True, help="folder of the run; resumes from a checkpoint in it")
    step.add_argument("--slice", type=Path, help="files of the previous slice, if --state has no checkpoint")
    step.add_argument("--out", type=Path, required=True, help="folder for the files of this slice")
    step.add_argument(
        "--piece-mib", type=float, default=math.inf, help="largest size of such a file, MiB (default: no limit)"
    )

    step = steps.add_parser("join", help="the files of a slice into a run and weights (anywhere)")
    step.set_defaults(step=join)
    step.add_argument("slice", type=Path, help="folder with the files of the last slice")
    step.add_argument("-o", "--output", type=Path, help="folder of the run to write: checkpoint, best weights, log")
    step.add_argument("--weights", type=Path, help="export the best weights to this .safetensors file")
    step.add_argument("--name", help="name of the weights (default: the file's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
