"""``rrl-register batch`` on a Dask cluster that a script starts, and that ends with the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import click

from rrl_register.cli import main
from rrl_register.errors import RegistrationError


class Cluster(Protocol):
    """Interface that all of Dask's clusters have."""

    scheduler_address: str


OpenCluster = Callable[[], AbstractContextManager[Cluster]]


def batch_on(open_cluster: OpenCluster, options: Sequence[str]) -> int:
    """Start a cluster, run a batch on it, and end it.

    Args:
        open_cluster: Starts the cluster, which ends with the context.
        options: Options of ``rrl-register batch``, without ``--scheduler``.

    Returns:
        The exit code.
    """
    try:
        with open_cluster() as cluster:
            return run_command(["batch", *options, "--scheduler", cluster.scheduler_address])
    except RegistrationError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code


def run_command(arguments: Sequence[str]) -> int:
    """Run ``rrl-register ARGUMENTS`` in this process, and return the exit code."""
    try:
        main.main(list(arguments), prog_name="rrl-register")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
