"""Work off a batch in pods of Kubernetes, through dask-kubernetes and the Dask operator.

    pip install dask-kubernetes
    python pipelines/register_kubernetes.py --workers 20 /data/SCENES.csv -o /data/aligned
    python pipelines/register_kubernetes.py --local 4 SCENES.csv -o DIR

What the pods are is in register_kubernetes.yaml: image, memory, and the volume with images and outputs. This script
runs where the volume is mounted under the same path (in a pod, or on a machine that mounts it), for it keeps the
journal in the output folder. Any other option goes to ``rrl-register batch``. The pods end with the batch.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rrl_register.batch.dask_local import local_cluster
from rrl_register.cli.cluster import batch_on
from rrl_register.errors import UsageError

if TYPE_CHECKING:
    from dask_kubernetes.operator import KubeCluster

PODS = Path(__file__).with_suffix(".yaml")


def kube_cluster(arguments: argparse.Namespace) -> KubeCluster:
    """A scheduler and workers, each a pod.

    Raises:
        UsageError: dask-kubernetes is not installed.
    """
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise UsageError("dask-kubernetes is missing; needed to start pods; try pip install dask-kubernetes") from error
    cluster = KubeCluster(custom_cluster_spec=str(arguments.pods), namespace=arguments.namespace)
    cluster.scale(arguments.workers)
    return cluster


def main() -> int:
    """Parses the command line and works off the batch; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="pods; default: %(default)s")
    parser.add_argument("--namespace", metavar="NAME", help="to work in; default: that of the current context")
    parser.add_argument("--pods", type=Path, default=PODS, metavar="FILE.yaml", help="default: %(default)s")
    parser.add_argument("--local", type=int, metavar="N", help="take N processes of this machine instead of pods")
    arguments, options = parser.parse_known_args()
    start = partial(local_cluster, arguments.local) if arguments.local else partial(kube_cluster, arguments)
    return batch_on(start, options)


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
