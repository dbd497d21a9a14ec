"""Archives of public data sets: fetched, continued where they broke off, checked and unpacked."""

import hashlib
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from esr.console import bar, say
from esr.errors import UserError

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A .zip or .tar of images, by its official address.

    Where its authors never published an MD5, only the file's length and the archive's own checks
    are used.
    """

    url: str
    makes: Path  # folder below `into`; where it exists, nothing is downloaded
    into: Path
    md5: str | None = None


INSTEAD = "data=sample (nothing needed), or data=folder data.train.hr=PATH for images of your own."
"""What else to type."""


def fetch(archives: Sequence[Archive], expected: str) -> None:
    """Download and unpack the archives whose folder is absent.

    No network, a broken file or no room is a UserError that shows the tree `expected` instead.
    """
    for archive in archives:
        into, makes = archive.into, archive.makes
        if makes.is_dir():
            continue
        try:
            into.mkdir(parents=True, exist_ok=True)
            with FileLock(into / ".download.lock"):  # processes of one machine take turns
                if not makes.is_dir():
                    file = into / archive.url.rsplit("/", 1)[-1]
                    download(archive.url, file, archive.md5)
                    _unpack(file, into, makes)
                    file.unlink()
        except OSError as error:
            raise UserError(
                f"{makes} is absent and {archive.url} could not be had: {error}.\n"
                f"Repeat the command to go on, or put the images there yourself:\n{expected}\n"
                f"To run without them: {INSTEAD}"
            ) from error


def download(
    url: str, file: Path, md5: str | None = None, attempts: int = 5, sha256: str | None = None
) -> Path:
    """Fetch `url` into `file`; a part that is there already is continued, not fetched again.

    The part is `file` + ".part" until it is complete and checked.

    Raises:
        UserError: the finished file is not what it should be (the part is removed).
        OSError: it could not be had after some attempts; the part stays.
    """
    if file.exists():
        return file
    part = file.with_name(file.name + ".part")
    for attempt in range(attempts):
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
            failure: OSError = error
        except OSError as error:  # broken off, timed out, no network
            failure = error
        progressed = part.exists() and part.stat().st_size > before
        if attempt == attempts - 1 or not (progressed or before):
            raise failure
        time.sleep(0.2 if progressed else 2**attempt)
    for name, expected in (("md5", md5), ("sha256", sha256)):
        if expected is None:
            continue
        with part.open("rb") as content:
            found = hashlib.file_digest(content, name).hexdigest()
        if found != expected:
            part.unlink()
            raise UserError(
                f"{url}: the downloaded file's {name.upper()} is {found}, expected {expected}. It "
                "was removed; repeat the command, or fetch the file elsewhere."
            )
    part.rename(file)
    return file


def _continue(url: str, part: Path) -> None:
    """Fetch what `part` lacks; OSError when the transfer ends early."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.build_opener().open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # "range not satisfiable", which names the whole length
            if (error.headers.get("Content-Range") or "").endswith(f"/{have}"):
                return  # nothing is missing
            part.unlink()  # longer than the file: not of this file
        raise
    with answer:
        if have and answer.status != 206:  # the server cannot continue: begin anew
            have = 0
        rest = answer.headers.get("Content-Length")
        total = have + int(rest) if rest is not None else None
        if total is not None:
            room = shutil.disk_usage(part.parent).free
            if total - have > room:
                raise OSError(f"needs {(total - have) / 1e9:.1f} GB, {room / 1e9:.1f} GB are free")
            say(f"downloading {url} ({total / 1e9:.2f} GB)" + (" on" if have else ""), aside=True)
        with part.open("ab" if have else "wb") as out, bar(part.stem, total, True) as advance:
            advance(have)
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                advance(len(chunk))
        if total is not None and part.stat().st_size != total:
            raise ConnectionError(f"broken off at {part.stat().st_size} of {total} bytes")


def _unpack(file: Path, into: Path, makes: Path) -> None:
    """Unpack beside the goal and rename at the end, so that a half-unpacked folder never counts."""
    staging, title = into / f".unpacking-{file.stem}", f"unpacking {file.name}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive, bar(title, len(archive.filelist)) as advance:
                for member in archive.infolist():
                    archive.extract(member, staging)
                    advance()
        elif tarfile.is_tarfile(file):
            with tarfile.open(file) as archive, bar(title, None) as advance:
                for member in archive:
                    archive.extract(member, staging, filter="data")
                    advance()
        else:
            file.unlink()
            raise UserError(f"{file} was no archive and is removed: the address is out of order")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        file.unlink()
        raise UserError(
            f"{file} was damaged ({error}) and is removed: repeat the command"
        ) from error
    source = staging / os.path.relpath(makes, into)
    if not source.is_dir():
        raise UserError(f"{file} holds no folder {os.path.relpath(makes, into)}: unpack it by hand")
    makes.parent.mkdir(parents=True, exist_ok=True)
    source.rename(makes)
    shutil.rmtree(staging)
