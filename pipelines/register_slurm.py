"""Run a batch in jobs of SLURM, through dask-jobqueue.

    pip install dask-jobqueue
    python pipelines/register_slurm.py --jobs 20 --scenes-per-job 8 --memory 16GiB --walltime 04:00:00 SCENES.csv -o DIR
    python pipelines/register_slurm.py --jobs 4 --gpu --memory 16GiB --queue gpu SCENES.csv -o DIR --device cuda
    python pipelines/register_slurm.py --local 4 SCENES.csv -o DIR

Start it on a node that may submit jobs; it ends its jobs with the batch. SCENES.csv, the images and DIR lie on a file
system that all nodes share. Any other option is passed to ``rrl-register batch``. If the time of the jobs was too
short, the same command with --resume continues. ``--show`` prints the job script and stops.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from dask_batch import batch_on
from rrl_register.batch.dask_cluster import GPU
from rrl_register.batch.dask_local import local_cluster
from rrl_register.errors import RegistrationError, UsageError

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster


def slurm_cluster(arguments: argparse.Namespace) -> SLURMCluster:
    """Start a scheduler in this process, and jobs with its workers, one process for each scene of a job.

    Raises:
        UsageError: dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise UsageError(
            "SLURM jobs need dask-jobqueue, which is not installed; try: pip install dask-jobqueue"
        ) from error
    cluster = SLURMCluster(
        cores=arguments.scenes_per_job,
        processes=arguments.scenes_per_job,
        memory=arguments.memory,
        walltime=arguments.walltime,
        queue=arguments.queue,
        account=arguments.account,
        job_extra_directives=["--gres=gpu:1"] if arguments.gpu else [],
        worker_extra_args=["--resources", f"{GPU}=1"] if arguments.gpu else [],
    )
    cluster.scale(jobs=0 if arguments.show else arguments.jobs)
    return cluster


def main() -> int:
    """Run the batch of the command line, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--scenes-per-job", type=int, default=1, metavar="N", help="at a time, on a core each; default: %(default)s"
    )
    parser.add_argument("--memory", default="4GiB", metavar="SIZE", help="of a job; default: %(default)s")
    parser.add_argument("--walltime", default="01:00:00", metavar="HH:MM:SS", help="of a job; default: %(default)s")
    parser.add_argument("--queue", metavar="NAME", help="partition to submit to")
    parser.add_argument("--account", metavar="NAME", help="account to charge")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each job, which works on one scene at a time")
    parser.add_argument("--show", action="store_true", help="print the job script and stop")
    parser.add_argument("--local", type=int, metavar="N", help="use N processes of this machine instead of jobs")
    arguments, options = parser.parse_known_args()
    if arguments.gpu:
        arguments.scenes_per_job = 1
    if arguments.show:
        return show(arguments)
    start = partial(local_cluster, arguments.local) if arguments.local else partial(slurm_cluster, arguments)
    return batch_on(start, options)


def show(arguments: argparse.Namespace) -> int:
    """Print the script of a job, and return the exit code."""
    try:
        with slurm_cluster(arguments) as cluster:
            print(cluster.job_script())
    except RegistrationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":  # workers are processes that import this file
    sys.exit(main())
