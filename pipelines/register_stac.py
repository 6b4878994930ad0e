"""Register the items of a STAC item collection, in processes of this machine or on a Dask cluster.

    python pipelines/register_stac.py ITEMS.json -o DIR --fixed-asset red --moving-asset vv --local 4
    python pipelines/register_stac.py ITEMS.json -o DIR --fixed REFERENCE.tif --moving-asset vv --scheduler tcp://HOST:PORT

ITEMS.json is the saved result of a search of a STAC API: ``search.item_collection().save_object("ITEMS.json")`` with
pystac-client. Sign the addresses of the assets first if the store requires it. Options are those of ``rrl-register
batch``. Needs the extra ``stac``, and ``--local`` the extra ``distributed``.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dask_batch import batch_on, run_command
from rrl_register.batch.dask_local import local_cluster


def main() -> int:
    """Run the batch of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("items", metavar="ITEMS.json")
    parser.add_argument("--moving-asset", required=True, metavar="KEY", help="asset that is the moving image")
    parser.add_argument("--local", type=int, metavar="N", help="use a Dask cluster of N processes of this machine")
    arguments, more = parser.parse_known_args()
    options = [arguments.items, "--moving-asset", arguments.moving_asset, *more]
    if arguments.local:
        return batch_on(partial(local_cluster, arguments.local), options)
    return run_command(["batch", *options])


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
