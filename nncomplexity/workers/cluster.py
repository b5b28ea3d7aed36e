"""The executor of a Dask cluster, which is started on Slurm, on Kubernetes or by hand (docs/distributed.md)."""

import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nncomplexity.errors import InputError
from nncomplexity.words import is_file

PATIENCE = 5.0
"""Seconds to wait for a scheduler."""


@contextmanager
def dask_executor(address: str, option: str = "scheduler") -> Iterator[Executor]:
    """A context manager with the executor of the Dask cluster whose scheduler has this address, such as tcp://10.0.0.1:8786.

    Args:
        address: the address of the scheduler, or the name of a scheduler file that ends in .json.
        option: the option or argument that gave the address, for messages.

    Yields:
        The executor. At the end the connection is closed, and the cluster continues to run.

    Raises:
        InputError: Dask isn't installed, or there is no scheduler at the address.
    """
    try:
        from distributed import Client  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise InputError(f"{option}: it needs Dask; install it with pip install 'nncomplexity[dask]'") from None
    in_file = address.endswith(".json")
    # Without an address, Dask would wait without a limit, start its own cluster, or fail without a reason.
    if not address or (in_file and not _has_address(Path(address))):
        raise InputError(
            f"{option}: expected the address of a Dask scheduler, such as tcp://10.0.0.1:8786, or its scheduler file, got {address!r}"
        )
    where = {"scheduler_file" if in_file else "address": address}
    with _quiet():
        client: Any = Client.__new__(Client)
        try:
            client.__init__(**where, timeout=PATIENCE, set_as_default=False)
        except Exception as error:  # of the address, the network, encryption, or another version of Dask
            # Otherwise Python closes the client when the program ends. That takes ten seconds and prints a traceback.
            with contextlib.suppress(Exception):
                client.close(timeout=1)
            text = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{option}: no Dask scheduler answers at {address} ({text}); start one, or correct the address"
            ) from None
        try:
            if not client.scheduler_info(n_workers=-1)["workers"]:
                print(f"nncomplexity: {option}: {address} has no workers yet; waiting for some", file=sys.stderr, flush=True)
            yield client.get_executor()
        finally:
            client.close(timeout=1)


def executor_of(given: Any) -> Any:
    """The executor of a Dask client; any other object is returned unchanged."""
    return given.get_executor() if callable(getattr(given, "get_executor", None)) else given


def _has_address(scheduler_file: Path) -> bool:
    """Whether it is a scheduler file: an object in JSON with an address."""
    try:
        content = json.loads(scheduler_file.read_bytes()) if is_file(scheduler_file) else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("address"), str)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Dask's tracebacks about lost connections, which this package reports in one line, and its warnings about large arguments."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    before = [(logger, logger.level) for logger in map(logging.getLogger, names)]  # each logger has its own level
    for logger, _ in before:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")
            yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
