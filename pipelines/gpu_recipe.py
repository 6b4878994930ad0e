"""Train on a bare machine with a GPU, in slices of a few minutes: pack here, train there, join here.

    python pipelines/gpu_recipe.py pack FOLDER... -o train.pack
    python pipelines/gpu_recipe.py train train.pack --config pipelines/train_rrlnet_gpu.yaml --state state --out slice
    python pipelines/gpu_recipe.py join slice -o runs/gpu --weights weights.safetensors

The second command needs PyTorch, NumPy, OpenCV, safetensors and PyYAML, and is called until it says that the run is
finished. See docs/gpu_recipe.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# The package need not be installed on the machine that trains: it lies beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rrl_register.errors import RegistrationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and does one of the three steps; returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        args.step(args)
    except RegistrationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def pack(args: argparse.Namespace) -> None:
    """Packs data sets into one file."""
    from rrl_register.training.config import load_training_config
    from rrl_register.training.datasets import Source, parse_sources
    from rrl_register.training.pack import write_pack

    sources: list[Source] = []
    for path in args.data:
        is_recipe = path.suffix in (".yaml", ".yml")
        sources += load_training_config(path).data if is_recipe else parse_sources(path)
    done = write_pack(args.output, sources, max_mib=args.max_mib, quality=args.quality, overwrite=args.overwrite)
    print(f"{args.output}: {done.pairs} pairs, {done.size / 2**20:.1f} MiB, quality {done.quality}")


def train(args: argparse.Namespace) -> None:
    """Trains one slice and leaves what the next one needs."""
    from rrl_register.training.config import load_training_config
    from rrl_register.training.fitting import fit_steps
    from rrl_register.training.loop import CHECKPOINT
    from rrl_register.training.loop import train as run_training
    from rrl_register.training.slices import read_slice, write_slice

    if args.slice and not (args.state / CHECKPOINT).is_file():
        print(f"going on after step {read_slice(args.slice, args.state)}", flush=True)
    config = load_training_config(args.config, data=str(args.pack), output=str(args.state))
    if args.fit:
        config = fit_steps(config, args.seconds)
        print(f"{config.descriptor_phase.steps} and {config.joint_phase.steps} steps", flush=True)
    finished = run_training(config, args.seconds)
    for file in write_slice(args.state, args.out, finished is not None):
        print(f"{file} {file.stat().st_size / 2**20:.1f} MiB")
    print("finished" if finished else "out of time: call again to go on")


def join(args: argparse.Namespace) -> None:
    """Puts a run together again, and exports its best weights."""
    from rrl_register.nn.weights import write_weights
    from rrl_register.training.export import source_weights
    from rrl_register.training.loop import BEST, CHECKPOINT
    from rrl_register.training.slices import read_slice

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

    step = steps.add_parser("pack", help="data sets into one file (where rasterio is installed)")
    step.set_defaults(step=pack)
    step.add_argument("data", type=Path, nargs="+", help="folder of pairs, or recipe (.yaml) whose data to take")
    step.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    step.add_argument("--max-mib", type=float, default=38.0, help="largest size, MiB (default: 38)")
    step.add_argument("--quality", type=int, default=90, help="WebP quality to begin with, 1 to 100 (default: 90)")
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
    step.add_argument("--state", type=Path, required=True, help="folder of the run; goes on from a checkpoint in it")
    step.add_argument("--slice", type=Path, help="files of the slice before, where --state holds no checkpoint")
    step.add_argument("--out", type=Path, required=True, help="folder for the files of this slice: 8 below 16 MiB")

    step = steps.add_parser("join", help="the files of a slice into a run and weights (anywhere)")
    step.set_defaults(step=join)
    step.add_argument("slice", type=Path, help="folder with the files of the last slice")
    step.add_argument("-o", "--output", type=Path, help="folder of the run to write: checkpoint, best weights, log")
    step.add_argument("--weights", type=Path, help="export the best weights to this .safetensors file")
    step.add_argument("--name", help="what the weights are to call themselves (default: the file's name)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
