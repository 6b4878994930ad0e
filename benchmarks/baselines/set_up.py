"""Make the environment of a method that needs packages of its own.

python benchmarks/baselines/set_up.py METHOD DIR [-- OPTIONS OF pip install]

METHOD is one with a file ``requirements-METHOD.txt`` in this folder. DIR becomes a virtual environment with the
releases pinned there; one that is there already is completed. On Linux the default index serves PyTorch's CUDA build,
some gigabytes: ``-- --extra-index-url INDEX`` asks an index with CPU builds as well. Prints the option that names
``benchmarks/pairs.py`` of the environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = "Scripts" if os.name == "nt" else "bin"


def main() -> None:
    """Read the arguments and install."""
    methods = sorted(path.stem.removeprefix("requirements-") for path in FOLDER.glob("requirements-*.txt"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=methods, metavar="METHOD", help=", ".join(methods))
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("options", nargs="*", help="options of pip install, after --")
    arguments = parser.parse_args()
    try:
        python = set_up(arguments.method, arguments.folder, arguments.options)
    except subprocess.CalledProcessError as error:
        sys.exit(f"Error: {' '.join(error.cmd)} ended with {error.returncode}: see what it printed above")
    print(f"--python {arguments.method}={python}")


def set_up(method: str, folder: Path, options: list[str]) -> Path:
    """Make a virtual environment with what a method needs.

    Returns:
        Its interpreter.

    Raises:
        subprocess.CalledProcessError: It could not be made, or pip failed.
    """
    python = folder.absolute() / SCRIPTS / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--requirement"]
    subprocess.run([*install, str(FOLDER / f"requirements-{method}.txt"), *options], check=True, stdout=sys.stderr)
    return python


if __name__ == "__main__":
    main()
