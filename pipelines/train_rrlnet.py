"""Train RRL-Net and export its weights.

    python pipelines/train_rrlnet.py pipelines/train_rrlnet.yaml --export weights.safetensors

Runs until the recipe is done or ``--seconds`` are over; called again, it goes on from its checkpoint. Needs the extra
``train``.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from rrl_register.errors import RegistrationError
from rrl_register.nn.weights import save_weights
from rrl_register.training.checkpoint import load_checkpoint
from rrl_register.training.config import load_training_config
from rrl_register.training.loop import train


def main() -> int:
    """Parses the command line, trains, exports; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this time, to go on later")
    parser.add_argument("--threads", type=int, help="CPU threads; default: as many as there are cores")
    parser.add_argument("--export", type=Path, help="write the pruned weights here, also of an unfinished run")
    parser.add_argument("--name", default="rrlnet", help="what the exported weights call themselves")
    args = parser.parse_args()
    try:
        config = load_training_config(args.config, threads=args.threads)
        finished = train(config, args.seconds)
        if args.export:
            export(config.output / "checkpoint.pt", args.export, args.name)
    except RegistrationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    print("finished" if finished else "out of time: call again to go on")
    return 0


def export(checkpoint: Path, output: Path, name: str) -> None:
    """Writes the averaged weights of a checkpoint, pruned, in half precision."""
    content = load_checkpoint(checkpoint)
    assert content is not None
    save_weights(output, content["mean"], {"name": name, "steps": str(content["step"])})


if __name__ == "__main__":
    sys.exit(main())
