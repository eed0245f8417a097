"""Executors: a ``dask.distributed`` client, or one with ``submit`` as in ``concurrent.futures``."""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Protocol

import jax

from aimz_lab.cluster.call_log import CallLog
from aimz_lab.cluster.tasks import (
    Header,
    Part,
    PartResult,
    held,
    joined,
    run_part,
    wait_until_idle,
    without_sums,
)
from aimz_lab.cluster.worker_versions import check_versions
from aimz_lab.data.tables import is_a
from aimz_lab.errors import AimzLabError, ArgumentError, ClusterError
from aimz_lab.system.cores import usable_cores
from aimz_lab.types import Executor, shown

_AT_ONCE = 2
"""Parts under way for each thread of a worker: one computed, one waiting."""

_IDLE_S = 30.0
"""How long a failed call waits for parts that are being written."""


_NO_WORKERS_S = 300.0
"""How long a call waits for workers once all are gone; others may be on their way."""

_ANSWER_S = 30.0
"""How long Dask's scheduler may take to answer a question."""


class PartFuture(Protocol):
    """The result of a part, as ``concurrent.futures.Future`` has it.

    With ``add_done_callback()`` as there, parts may end in any order.
    """

    def result(self) -> PartResult:
        """Wait for the result."""

    def cancel(self) -> object:
        """Do not begin, if it has not begun."""


class Workers:
    """The workers of an executor.

    Args:
        executor: The executor.

    Attributes:
        at_once: Parts under way at the same time.
        link: Address of the page that shows the workers; ``""`` for none.
        can_join: Whether results may stay on the workers and be joined there.

    Raises:
        ArgumentError: If it is no executor.
    """

    can_join = False

    def __init__(self, executor: Executor) -> None:
        if not isinstance(executor, Executor) or isinstance(executor, type):
            msg = (
                f"executor={shown(executor)} has no submit(); pass a dask.distributed Client, or "
                "an executor of concurrent.futures."
            )
            raise ArgumentError(msg)
        self._executor = executor
        self.at_once = _AT_ONCE * usable_cores()
        self.link = ""

    def send(self, call: bytes) -> Any:
        """Bring the call to the workers; return what stands for it in :meth:`submit`."""
        return call

    def submit(self, header: Header, call: Any, part: Part) -> PartFuture:
        """Begin a part.

        Raises:
            ClusterError: If the executor takes no work: it is shut down, or its workers are lost.
            ArgumentError: If what it returns is no future.
        """
        try:
            future = self._executor.submit(run_part, header, call, part)
        except (BrokenExecutor, RuntimeError, OSError) as error:
            raise _lost(error) from error
        if not hasattr(future, "result") or not hasattr(future, "cancel"):
            msg = (
                f"submit() of executor={shown(self._executor)} returned {shown(future)}; it must "
                "return a future, with result() and cancel()."
            )
            raise ArgumentError(msg)
        return future

    def result(self, future: PartFuture) -> PartResult | None:
        """Wait for a part.

        Returns:
            Its result; ``None`` if that was lost on its way, and the part is computed again.

        Raises:
            ClusterError: If the workers are lost, or another error came from Python there.
        """
        try:
            return future.result()
        except AimzLabError:
            raise
        except (BrokenExecutor, CancelledError, FutureTimeoutError, OSError) as error:
            raise _lost(error) from error
        except ModuleNotFoundError as error:
            raise _lacking(error) from error

    def look(self, futures: Mapping[int, PartFuture], log: CallLog) -> None:
        """Note which worker has which part, where an executor tells.

        Args:
            futures: The parts under way, by their first row or draw.
            log: Takes what is found.

        Raises:
            ClusterError: If no part can come any more.
        """

    def stop(self, futures: list[PartFuture]) -> None:
        """Cancel parts, and wait until none is being written."""
        for future in futures:
            future.cancel()
        ends = [_end_of(future) for future in futures]
        shut = getattr(self._executor, "shutdown", None)
        if shut is not None and any(isinstance(end, BrokenExecutor) for end in ends):
            # It takes no work any more, and processes that are left may be writing still.
            shut(wait=True, cancel_futures=True)


class DaskWorkers(Workers):
    """The workers of a ``dask.distributed`` client.

    Args:
        client: The client.

    Raises:
        ArgumentError: If it is asynchronous.
        ClusterError: If it is closed, or has no workers, or one of another version.
    """

    can_join = True

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._alone_since: float | None = None
        self._names: dict[str, str] = {}
        if client.asynchronous:
            msg = "executor= takes a synchronous Client; pass Client(..., asynchronous=False)."
            raise ArgumentError(msg)
        if client.status != "running":
            raise _lost(ConnectionError(f"the client is {client.status}"))
        workers = self._asked(client.nthreads)
        threads = sum(workers.values())
        if not threads:
            msg = (
                "The Dask cluster has no workers; wait for some (client.wait_for_workers(1)), or "
                "scale it (cluster.scale(4))."
            )
            raise ClusterError(msg)
        check_versions(client, workers)
        self.at_once = _AT_ONCE * threads
        self.link = _dashboard_of(client)

    def send(self, call: bytes) -> Any:
        """Bring the call to each worker once.

        It is the result of a task, which Dask computes again if its workers die. What is scattered
        would be lost then; and a worker that dies while it is scattered to all keeps Dask's
        scheduler waiting for it without end.
        """
        return self._submitted(f"aimz_lab-call-{uuid.uuid4().hex}", held, call)

    def submit(self, header: Header, call: Any, part: Part) -> PartFuture:
        """Begin a part; a worker that dies costs time, as another one then computes it."""
        return self._submitted(f"aimz_lab-{header.call}-{part.first}", run_part, header, call, part)

    def told(self, part: PartFuture) -> PartFuture:
        """Return a future of all but the sums of a part, which stay where they were computed."""
        return self._submitted(f"{part.key}-told", without_sums, part)

    def join(self, parts: list[PartFuture]) -> PartFuture:
        """Join the sums of neighbouring parts on a worker that has some of them.

        Args:
            parts: The parts, or what was joined of others, in order.
        """
        return self._submitted(f"{parts[0].key}-{uuid.uuid4().hex[:8]}", joined, *parts)

    def _submitted(self, key: str, function: Callable, *arguments: Any) -> PartFuture:
        """Begin a task; Dask would advise to scatter what a part brings along."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self._asked(
                lambda: self._executor.submit(function, *arguments, key=key, pure=False)
            )

    def result(self, future: PartFuture) -> PartResult | None:
        """Take the result of a part; see the base class."""
        return self._asked(lambda: _fetched(future))

    def look(self, futures: Mapping[int, PartFuture], log: CallLog) -> None:
        """Ask the scheduler which worker has which part; see the base class.

        Raises:
            ClusterError: If the scheduler is gone or does not answer, or has had no workers for
                some minutes.
        """
        client = self._executor
        if client.status != "running":
            raise _lost(ConnectionError(f"the connection to the scheduler is {client.status}"))
        # What is "lost" was computed by a worker that died, and is computed again.
        if any(future.status == "cancelled" for future in futures.values()):
            raise _lost(ConnectionError("the scheduler does not know the parts any more"))
        tasks = self._asked(
            lambda: client.sync(client.scheduler.processing, callback_timeout=_ANSWER_S)
        )
        self._check_workers(bool(tasks))
        if tasks.keys() - self._names.keys():
            workers = self._asked(lambda: client.scheduler_info(n_workers=-1))["workers"]
            self._names |= {address: str(one["name"]) for address, one in workers.items()}
        of_part = {future.key: first for first, future in futures.items()}
        found = {
            of_part[key]: (address, self._names.get(address, address))
            for address, keys in tasks.items()
            for key in keys
            if key in of_part
        }
        log.assigned(found, set(tasks))

    def _check_workers(self, there: bool) -> None:
        if there:
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > _NO_WORKERS_S:
            msg = (
                f"The Dask cluster has had no workers for {_NO_WORKERS_S:g} s: all have died "
                "or were stopped. Nothing was kept; start some (cluster.scale(4)), and repeat the "
                "call."
            )
            raise ClusterError(msg)

    def stop(self, futures: list[PartFuture]) -> None:
        """Cancel parts, and wait until none is being written."""
        if not futures:
            return
        # A scheduler that does not answer would keep this thread.
        ending = threading.Thread(target=self._end, args=(futures,), daemon=True)
        ending.start()
        ending.join(_IDLE_S + _ANSWER_S)

    def _end(self, futures: list[PartFuture]) -> None:
        try:
            self._executor.cancel(futures)
            self._executor.run(wait_until_idle, _IDLE_S, on_error="ignore")
        except Exception:  # noqa: BLE001  the cluster is gone, and its workers with it
            return

    @staticmethod
    def _asked(ask: Callable[[], Any]) -> Any:
        """Ask the cluster, and explain what goes wrong there.

        Raises:
            ClusterError: If the scheduler or the workers are lost.
        """
        from distributed import KilledWorker
        from distributed import client as dask_client
        from distributed.comm import CommClosedError

        closed = getattr(dask_client, "ClosedClientError", RuntimeError)  # of new releases

        try:
            return ask()
        except (AimzLabError, jax.errors.JaxRuntimeError):
            raise
        except KilledWorker as error:
            msg = (
                f"Several workers died while they computed the same part: {error}. The usual "
                "reason is memory; pass a smaller batch_size=, or give the workers more."
            )
            raise ClusterError(msg) from error
        except (
            closed,
            CommClosedError,
            CancelledError,
            FutureTimeoutError,
            TimeoutError,
            OSError,
            RuntimeError,
        ) as error:
            raise _lost(error) from error
        except ModuleNotFoundError as error:
            raise _lacking(error) from error


def as_workers(executor: Executor) -> Workers:
    """Return the workers of an executor; see :class:`Workers`."""
    if is_a(executor, "distributed", "Client"):
        return DaskWorkers(executor)
    return Workers(executor)


def _fetched(future: Any) -> PartResult | None:
    """Take a result of Dask; ``None`` if its worker has died meanwhile.

    Without a time limit, that would be waited for, even where no worker is left.
    """
    timeout_s = _ANSWER_S
    while True:
        try:
            return future.result(timeout=timeout_s)
        except TimeoutError:
            if future.status == "error":
                raise
            if future.status != "finished":
                return None
            timeout_s *= 2  # it is large, or the network is slow


def _lost(error: BaseException) -> ClusterError:
    text = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    if "scheduler-connection-lost" in text or "ConnectionPool" in text:
        text = "the connection to the scheduler broke off"
    return ClusterError(
        f"The workers, or their scheduler, are lost: {text}. Nothing was kept; start the cluster "
        "again, and repeat the call."
    )


def _lacking(error: ModuleNotFoundError) -> ClusterError:
    return ClusterError(f"A worker lacks a package: {error}. Install there what this process has.")


def _dashboard_of(client: Any) -> str:
    """Return the link of Dask's own dashboard, or nothing where there is none."""
    try:
        has_page = "dashboard" in client.scheduler_info()["services"]
        return str(client.dashboard_link) if has_page else ""
    except Exception:  # noqa: BLE001  it is only shown
        return ""


def _end_of(future: PartFuture) -> BaseException | None:
    """Wait until a part is not computed any more; return its error.

    An interrupt ends workers too, and is an error of the part then; raised here, it would keep the
    call from waiting for the others.
    """
    if not hasattr(future, "exception"):
        return None
    try:
        return future.exception()
    except (CancelledError, FutureTimeoutError):
        return None
