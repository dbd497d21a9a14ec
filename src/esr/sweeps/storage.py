"""Where a study lies: a file in the sweep's folder, or a database that many machines reach."""

from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from esr.errors import UserError


def open_storage(storage: str | None, folder: Path) -> BaseStorage:
    """A database by its URL, a journal by its file's name, or SQLite in `folder`.

    Raises:
        UserError: the database cannot be reached; passwords are not shown.
    """
    if storage is not None and "://" not in storage:
        return JournalStorage(JournalFileBackend(storage))
    url = storage or f"sqlite:///{folder.resolve() / 'study.db'}"
    # SQLite has one writer at a time; others wait instead of failing.
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    try:
        return RDBStorage(url, options)
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise UserError(f"cannot open sweep.storage={hidden(url)}: {_reason(error, url)}") from None


def hidden(url: str) -> str:
    """The URL without its secrets."""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return f"{url.partition('://')[0]}://..."


def _reason(error: BaseException, url: str) -> str:
    if isinstance(error, ImportError) or "ImportError" in str(error) or "No module" in str(error):
        driver = "psycopg2-binary" if url.startswith("postgresql") else "the database's driver"
        return f"install {driver}"
    cause = getattr(error, "orig", None) or error
    line = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    for secret in filter(None, _secrets(url)):
        line = line.replace(secret, "***")
    return line


def _secrets(url: str) -> list[str]:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return [url]
    return [str(parsed.password or ""), *(str(value) for value in parsed.query.values())]
