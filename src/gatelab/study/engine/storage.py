"""Where Optuna keeps a study: a journal file, a database, or Optuna's gRPC proxy in front of one.

What is special about the journal is in `journal.py`. Who may run which trial is not decided here (`queue.py`).
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from gatelab.run.config.compose import nearest
from gatelab.run.errors import RequestError
from gatelab.run.record.secrets import without_secrets
from gatelab.study.engine.storage import Journal
from gatelab.study.engine.storage import PASSWORD, hide_password, with_password
from gatelab.study.engine.samplers import quiet_optuna as quiet_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

ASKS = re.compile(r"password|access denied|authentication", re.IGNORECASE)
SCHEMES = ("journal", "sqlite", "postgresql", "mysql", "grpc")
DRIVERS = {
    "postgresql": "psycopg[binary]",
    "mysql": "PyMySQL",
    "mariadb": "PyMySQL",
    "grpc": "grpcio protobuf",
}
SERVER_SECONDS = 20.0
"""How long a gRPC proxy may take to answer for the first time."""


def check_storage(url: str | None, slots: int) -> None:
    """Refuse what cannot work, without opening it.

    Args:
        url: `study.storage`; None is the journal.
        slots: runs at the same time in all workers together.

    Raises:
        RequestError: an unknown kind of storage, or SQLite with several slots.
    """
    if url is None:
        return
    scheme, shown = scheme_of(url), hide_password(url)
    if scheme not in (*SCHEMES, "mariadb"):
        raise RequestError(
            f"study.storage={shown}: no such kind of storage.{nearest(scheme, SCHEMES)} It may be "
            "journal:///PATH, postgresql://..., mysql://..., grpc://HOST:PORT or sqlite:///PATH."
        )
    if re.search(r"[?&]password=", url):
        raise RequestError(
            f"study.storage: write the password as in {scheme}://USER:PASSWORD@HOST/DB, or set {PASSWORD}; it is "
            "kept in no file."
        )
    if scheme == "grpc" and len(url.removeprefix("grpc://").rsplit(":", 1)) != 2:
        raise RequestError(f"study.storage={shown}: write grpc://HOST:PORT.")
    if scheme == "sqlite" and slots > 1:
        raise RequestError(
            f"study.storage={shown}: SQLite cannot serve {slots} slots. Two workers can be given the same trial by "
            "it, and its file lock fails on network file systems. Leave study.storage away (a journal file, safe "
            "for any number), or name a PostgreSQL or MySQL server; SQLite does for study.workers=1 study.slots=1."
        )


def scheme_of(url: str) -> str:
    """`postgresql` of `postgresql+psycopg://...`."""
    return url.partition(":")[0].partition("+")[0].lower()


def open_storage(url: str) -> BaseStorage:
    """Open, and if need be make, the storage at `url`; `batch` writes several changes to it at once.

    Raises:
        RequestError: it cannot be opened, or a package for it is missing; the message names the fix.
    """
    check_storage(url, 1)
    quiet_optuna()
    scheme = scheme_of(url)
    shown = hide_password(url)
    try:
        if scheme == "journal":
            return Journal(Path(url.removeprefix("journal://")))
        if scheme == "grpc":
            host, port = url.removeprefix("grpc://").rsplit(":", 1)
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
            proxy.wait_server_ready(SERVER_SECONDS)
            return proxy
        options = {"connect_args": {"timeout": 100}} if scheme == "sqlite" else {"pool_pre_ping": True}
        return optuna.storages.get_storage(
            optuna.storages.RDBStorage(with_password(url), engine_kwargs=options)
        )
    except ImportError as error:
        raise RequestError(
            f"study.storage={shown}: a package is missing ({error.name or error}): "
            f"pip install '{DRIVERS.get(scheme, 'optuna')}'."
        ) from None
    except ConnectionError as error:
        raise RequestError(
            f"study.storage={shown}: nobody answers there ({error}). Start Optuna's proxy first "
            "(optuna.storages.run_grpc_proxy_server)."
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"study.storage={shown}: {error}") from None
    except Exception as error:  # SQLAlchemy's errors; imported only where it is used
        if not type(error).__module__.startswith("sqlalchemy"):
            raise
        told = without_secrets(str(error).splitlines()[0])
        hint = f". The password is not kept with a study: set {PASSWORD}." if ASKS.search(str(error)) else ""
        raise RequestError(f"study.storage={shown}: {told}{hint}") from None


def batch(storage: BaseStorage) -> contextlib.AbstractContextManager[None]:
    """`Journal.batch`; on other storages the changes are written one by one."""
    return storage.batch() if isinstance(storage, Journal) else contextlib.nullcontext()


def take(storage: BaseStorage, trial_id: int) -> bool:
    """Let a waiting trial run; False if somebody else was faster, or has ended it."""
    try:
        if isinstance(storage, Journal):
            return storage.take(trial_id)
        return storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False


def sync(storage: BaseStorage) -> None:
    """Wait until everything written is on the disk; databases see to that themselves."""
    if isinstance(storage, Journal):
        storage.sync()
