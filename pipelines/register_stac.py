"""Register the items of a STAC item collection, in processes of this machine or on a Dask cluster.

    python pipelines/register_stac.py ITEMS.json -o DIR --fixed-asset red --moving-asset vv --local 4
    python pipelines/register_stac.py ITEMS.json -o DIR --fixed REFERENCE.tif --moving-asset vv --scheduler tcp://HOST:PORT

ITEMS.json is what a search of a STAC API gives, saved: ``search.item_collection().save_object("ITEMS.json")`` with
pystac-client, after the addresses of the assets were signed where the store wants that. Options are those of
``rrl-register batch``. Needs the extra ``stac``, and ``--local`` the extra ``distributed``.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from rrl_register.batch.dask_local import local_cluster
from rrl_register.cli.cluster import batch_on, run_verb


def main() -> int:
    """Parses the command line and works off the batch; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("items", metavar="ITEMS.json")
    parser.add_argument("--moving-asset", required=True, metavar="KEY", help="asset that is the moving image")
    parser.add_argument("--local", type=int, metavar="N", help="work on a Dask cluster of N processes of this machine")
    arguments, more = parser.parse_known_args()
    options = [arguments.items, "--moving-asset", arguments.moving_asset, *more]
    if arguments.local:
        return batch_on(partial(local_cluster, arguments.local), options)
    return run_verb(["batch", *options])


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
