"""Register the pairs of a folder of GeoTIFFs, in processes of this machine or on a Dask cluster.

    python pipelines/register_folder.py FOLDER -o DIR --local 4
    python pipelines/register_folder.py FOLDER -o DIR --fixed '{id}_vis.tif' --moving '{id}_sar.tif' --moving-kind sar

``{id}`` is the part of a pair's names that both share. Any other option goes to ``rrl-register batch``: --resume,
--workers N, --scheduler tcp://HOST:PORT, ... ``--local`` needs the extra ``distributed``.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from rrl_register.batch.dask_local import local_cluster
from rrl_register.cli.cluster import batch_on, run_verb


def main() -> int:
    """Parses the command line and works off the batch; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--fixed", default="{id}_fixed.tif", help="name of the fixed images; default: %(default)s")
    parser.add_argument("--moving", default="{id}_moving.tif", help="name of the moving images; default: %(default)s")
    parser.add_argument("--local", type=int, metavar="N", help="work on a Dask cluster of N processes of this machine")
    arguments, more = parser.parse_known_args()
    options = ["--fixed", str(arguments.folder / arguments.fixed), "--moving", str(arguments.folder / arguments.moving)]
    if arguments.local:
        return batch_on(partial(local_cluster, arguments.local), [*options, *more])
    return run_verb(["batch", *options, *more])


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
