"""Register the pairs of a folder of GeoTIFFs, in processes of this machine or on a Dask cluster.

    python pipelines/register_folder.py FOLDER -o DIR --local 4
    python pipelines/register_folder.py FOLDER -o DIR --fixed '{id}_vis.tif' --moving '{id}_sar.tif' --moving-kind sar

``{id}`` is the common part of the two names of a pair. Any other option is passed to ``rrl-register batch``: --resume,
--workers N, --scheduler tcp://HOST:PORT, ... ``--local`` needs the extra ``distributed``.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from dask_batch import batch_on, run_command
from rrl_register.batch.dask_local import local_cluster


def main() -> int:
    """Run the batch of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--fixed", default="{id}_fixed.tif", help="name of the fixed images; default: %(default)s")
    parser.add_argument("--moving", default="{id}_moving.tif", help="name of the moving images; default: %(default)s")
    parser.add_argument("--local", type=int, metavar="N", help="use a Dask cluster of N processes of this machine")
    arguments, more = parser.parse_known_args()
    options = ["--fixed", str(arguments.folder / arguments.fixed), "--moving", str(arguments.folder / arguments.moving)]
    if arguments.local:
        return batch_on(partial(local_cluster, arguments.local), [*options, *more])
    return run_command(["batch", *options, *more])


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
