"""Run a batch in pods of Kubernetes, through dask-kubernetes and the Dask operator.

    pip install dask-kubernetes
    python pipelines/register_kubernetes.py --workers 20 /data/SCENES.csv -o /data/aligned
    python pipelines/register_kubernetes.py --local 4 SCENES.csv -o DIR

register_kubernetes.yaml describes the pods: image, memory, and the volume with images and outputs. Run this script in a
pod or on a machine that mounts the volume under the same path, because it keeps the journal in the output folder. Any
other option is passed to ``rrl-register batch``. The pods end with the batch.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dask_batch import batch_on
from rrl_register.batch.dask_local import local_cluster
from rrl_register.errors import UsageError

if TYPE_CHECKING:
    from dask_kubernetes.operator import KubeCluster

PODS = Path(__file__).with_suffix(".yaml")


def kube_cluster(arguments: argparse.Namespace) -> KubeCluster:
    """Start a scheduler and workers, each a pod.

    Raises:
        UsageError: dask-kubernetes is not installed.
    """
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise UsageError(
            "Pods need dask-kubernetes, which is not installed; try: pip install dask-kubernetes"
        ) from error
    cluster = KubeCluster(custom_cluster_spec=str(arguments.pods), namespace=arguments.namespace)
    cluster.scale(arguments.workers)
    return cluster


def main() -> int:
    """Run the batch of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="pods; default: %(default)s")
    parser.add_argument("--namespace", metavar="NAME", help="to work in; default: that of the current context")
    parser.add_argument("--pods", type=Path, default=PODS, metavar="FILE.yaml", help="default: %(default)s")
    parser.add_argument("--local", type=int, metavar="N", help="use N processes of this machine instead of pods")
    arguments, options = parser.parse_known_args()
    start = partial(local_cluster, arguments.local) if arguments.local else partial(kube_cluster, arguments)
    return batch_on(start, options)


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
