"""What the members of the cluster call themselves: on one machine, all would have the same name."""

from __future__ import annotations

import os

#: Environment variable that tells a process which member of the cluster it belongs to.
MEMBER = "DIFFIO_CLUSTER_MEMBER"


def hostname() -> str:
    """Airflow's ``[core] hostname_callable``: jobs and task instances record who ran them."""
    return os.environ[MEMBER]
