"""Downloads, from a server of our own on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from posekit.data import download


class Files(BaseHTTPRequestHandler):
    content: bytes = b""
    stop_after: int | None = None
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        start = self.headers.get("Range")
        type(self).asked.append(start)
        offset = int(start.removeprefix("bytes=").rstrip("-")) if start else 0
        if self.path != "/dots.zip" or offset >= len(self.content):
            self.send_error(404 if self.path != "/dots.zip" else 416)
            return
        body = self.content[offset:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.stop_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    archive = tmp_path / "dots.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("pictures/a.txt", "a" * 100_000)
    Files.content, Files.stop_after, Files.asked = archive.read_bytes(), None, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as httpd:
        Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def dots_from(address, **changes):
    md5 = hashlib.md5(Files.content).hexdigest()
    archive = download.Archive(f"{address}/dots.zip", len(Files.content), "pictures/a.txt", md5=md5)
    return {"dots": download.Source((dataclasses.replace(archive, **changes),))}


def fetch(sources, root, **options):
    return download.fetch("dots", root, sources=sources, progressbar=False, **options)


def test_a_dataset_is_fetched_unpacked_and_left_alone_the_second_time(server, tmp_path):
    folder = fetch(dots_from(server), tmp_path / "root")
    assert (folder / "pictures/a.txt").read_text() == "a" * 100_000
    assert [p.name for p in folder.iterdir()] == ["pictures"], "the archive or a staging folder was left behind"
    fetch(dots_from(server), tmp_path / "root")
    assert len(Files.asked) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 25)
    Files.stop_after = 110
    with pytest.raises(download.DownloadError, match=r"cannot be fetched.*call again, it goes on where it stopped"):
        fetch(dots_from(server), tmp_path / "root")
    assert not (tmp_path / "root/dots/pictures").exists()
    Files.stop_after = None
    folder = fetch(dots_from(server), tmp_path / "root")
    assert Files.asked == [None, "bytes=100-"]
    assert (folder / "pictures/a.txt").read_text() == "a" * 100_000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"md5": "0" * 32}, "does not have the published MD5 sum"),
        ({"url": "http://127.0.0.1:9/dots.zip"}, "check the connection"),
        ({"holds": "elsewhere"}, "holds no 'elsewhere'"),
        ({"size": 1 << 60}, "GiB are free; choose another root"),
    ],
)
def test_what_stands_in_the_way_of_a_download_is_said(server, tmp_path, changes, says):
    with pytest.raises(download.DownloadError) as error:
        fetch(dots_from(server, **changes), tmp_path / "root")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_what_only_a_person_can_fetch_is_said_last(server, tmp_path):
    by_hand = (("images", "the pictures have no direct address"),)
    source = {"dots": dataclasses.replace(dots_from(server)["dots"], by_hand=by_hand)}
    with pytest.raises(download.DownloadError, match=r"no direct address, and unpack it to .*images"):
        fetch(source, tmp_path / "root")
    assert fetch(source, tmp_path / "root", only=("dots",)).name == "dots"
    with pytest.raises(download.DownloadError, match="no dataset 'lsp' is known; there are coco, crowdpose, mpii"):
        download.fetch("lsp", tmp_path)
