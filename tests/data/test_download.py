"""Downloads against a server on this machine that breaks off and continues."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esr.data.download import Archive, download, fetch
from esr.data.official import DIV2K
from esr.errors import UserError

DATA = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; breaks off after `limit` bytes an answer; may not know ranges."""

    files: dict[str, bytes]
    limit: int
    ranges: bool
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range", "")
        self.server.asked.append(asked)
        first = int(asked[6:-1]) if asked and self.server.ranges else 0
        if first >= len(data) > 0 and asked and self.server.ranges:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        self.wfile.write(data[first : first + self.server.limit])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.files, server.limit = {"/data.bin": DATA}, 10**9
        server.ranges, server.asked = True, []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def address(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_a_transfer_that_breaks_off_is_continued(server, tmp_path):
    server.limit = 70_000
    file = download(address(server, "/data.bin"), tmp_path / "data.bin", md5(DATA))
    assert file.read_bytes() == DATA
    assert server.asked == ["", *(f"bytes={n}-" for n in (70_000, 140_000, 210_000, 280_000))]


def test_a_later_run_continues_an_earlier_part(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(DATA[:123_456])
    download(address(server, "/data.bin"), tmp_path / "data.bin", md5(DATA))
    assert server.asked == ["bytes=123456-"]
    assert (tmp_path / "data.bin").read_bytes() == DATA
    assert not (tmp_path / "data.bin.part").exists()


def test_a_complete_part_is_not_fetched_again(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(DATA)
    download(address(server, "/data.bin"), tmp_path / "data.bin", md5(DATA))
    assert (tmp_path / "data.bin").read_bytes() == DATA


def test_a_server_without_ranges_is_begun_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / "data.bin.part").write_bytes(DATA[:1000])
    download(address(server, "/data.bin"), tmp_path / "data.bin", md5(DATA))
    assert (tmp_path / "data.bin").read_bytes() == DATA


def test_a_wrong_file_is_refused_and_removed(server, tmp_path):
    with pytest.raises(UserError, match="MD5"):
        download(address(server, "/data.bin"), tmp_path / "data.bin", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "png")
    return out.getvalue()


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, picture())
    return out.getvalue()


def tarred(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(picture())
        archive.addfile(info, io.BytesIO(picture()))
    return out.getvalue()


def test_archives_are_unpacked_once_and_beside_each_other(server, tmp_path):
    root = tmp_path / "data"
    server.files = {"/x4.zip": zipped("LR/X4/1x4.png"), "/all.tar": tarred("Set/HR/1.png")}
    archives = [
        Archive(address(server, "/x4.zip"), root / "LR/X4", root, md5(server.files["/x4.zip"])),
        Archive(address(server, "/all.tar"), root / "Set", root),
    ]
    for _ in range(2):
        fetch(archives, "")
    assert server.asked == ["", ""]
    found = {str(p.relative_to(root)) for p in root.rglob("*.png")}
    assert found == {"LR/X4/1x4.png", "Set/HR/1.png"}
    assert {p.name for p in root.iterdir()} <= {"LR", "Set", ".download.lock"}


def test_a_damaged_archive_is_removed_so_that_repeating_helps(server, tmp_path):
    server.files = {"/a.zip": zipped("A/1.png")[:-30]}
    with pytest.raises(UserError, match=r"a\.zip"):
        fetch([Archive(address(server, "/a.zip"), tmp_path / "A", tmp_path)], "")
    server.files = {"/a.zip": zipped("A/1.png")}
    fetch([Archive(address(server, "/a.zip"), tmp_path / "A", tmp_path)], "")
    assert (tmp_path / "A" / "1.png").exists()


def test_without_the_file_the_expected_tree_and_the_way_on_are_shown(server, tmp_path, monkeypatch):
    base = address(server, "/absent")
    monkeypatch.setattr("esr.data.official._DIV2K", base)
    with pytest.raises(UserError) as error:
        DIV2K(str(tmp_path), "train").prepare(4)
    for part in ("DIV2K_train_HR/NAME.png", "DIV2K_train_LR_bicubic/X4/NAMEx4.png", "data=sample"):
        assert part in str(error.value)


def test_only_folders_that_are_used_are_downloaded(server, tmp_path, monkeypatch):
    monkeypatch.setattr("esr.data.official._DIV2K", address(server, ""))
    (tmp_path / "DIV2K_valid_HR").mkdir()
    DIV2K(str(tmp_path), "valid", lr="made").prepare(4)
    assert server.asked == []
    Path(tmp_path / "DIV2K_valid_LR_bicubic" / "X4").mkdir(parents=True)
    DIV2K(str(tmp_path), "valid").prepare(4)
    assert server.asked == []
