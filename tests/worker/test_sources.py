"""Where a question's picture may come from: everything that a stranger could try, on a real disk and a real server."""

from __future__ import annotations

import http.server
import os
import shutil
import ssl
import subprocess
import threading

import pytest

from geosearch.errors import InputError
from geosearch.worker import sources

MOST = 1000


@pytest.fixture
def folders(tmp_path):
    """An archive's folder with a picture and traps, and a secret beside it."""
    root, secret = tmp_path / "archive", tmp_path / "secret"
    (root / "sub").mkdir(parents=True)
    secret.mkdir()
    (tmp_path / "archive-not").mkdir()
    for file in (root / "a.png", root / "sub" / "b c.png", secret / "key", tmp_path / "archive-not" / "x"):
        file.write_bytes(b"bytes of " + file.name.encode())
    (root / "large.png").write_bytes(bytes(MOST + 1))
    (root / "empty.png").touch()
    (root / "link.png").symlink_to(secret / "key")
    (root / "inside.png").symlink_to(root / "a.png")
    (root / "folder").symlink_to(secret)
    os.mkfifo(root / "pipe")
    return root, secret


def read(uri, roots=(), base=None, hosts=(), seconds=5.0):
    return sources.read_source(uri, roots=roots, base=base, hosts=hosts, max_bytes=MOST, seconds=seconds)


def test_files_in_the_folder_of_an_archive_are_read(folders):
    root, _ = folders
    roots = [str(root)]
    for uri in (
        str(root / "a.png"),
        (root / "a.png").as_uri(),
        f"file://localhost{root}/a.png",
        str(root / "inside.png"),
    ):
        assert read(uri, roots) == b"bytes of a.png"
    assert read("sub/b c.png", roots, str(root)) == b"bytes of b c.png"
    assert read((root / "sub" / "b c.png").as_uri(), [root.as_uri()]) == b"bytes of b c.png"


def test_nothing_else_on_the_disk_is_and_nobody_learns_what_is_there(folders):
    root, secret = folders
    roots, told = [str(root)], set()
    for uri in (
        str(secret / "key"), (secret / "key").as_uri(), str(secret / "no such key"), "/etc/passwd", "/etc/no such file",
        str(root / ".." / "secret" / "key"), f"{root}/sub/../../secret/key", str(root / "link.png"),
        str(root / "folder" / "key"), f"{root}-not/x", str(root), "/proc/self/environ", "/dev/zero",
        f"file://{root}/../secret/key", f"file:{root}/%2e%2e/secret/key",
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            read(uri, roots, str(root))
        told.add(str(caught.value).replace(uri, "…"))
    assert len(told) == 1
    assert "is not in the folder of an archive" in told.pop()


def test_other_ways_out_and_other_things_than_files_are_refused(folders):
    root, _ = folders
    for uri, words in (
        ("../secret/key", "leads out"), ("sub/../../secret/key", "leads out"), ("a\0b", "zero byte"),
        (f"file://elsewhere{root}/a.png", "another machine"), (f"{root}/pipe", "is no file"),
        (f"{root}/sub", "Is a directory"), (f"{root}/large.png", "more than 1,000 bytes"),
        (f"{root}/empty.png", "is empty"), (f"{root}/gone.png", "No such file"), ("s3://bucket/a.png", "https"),
        ("ftp://host/a.png", "https"), ("data:image/png;base64,AAAA", "."), ("gopher://x/", "https"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            read(uri, [str(root)], str(root))
    with pytest.raises(InputError, match="relative path"):
        read("a.png", [str(root)])


def test_an_archive_of_the_whole_disk_or_of_another_machine_opens_nothing(folders):
    root, _ = folders
    assert sources.local_roots(["/", "file:///", "//", "https://host/x", "relative", None, "", "a\0b", str(root)]) == [
        os.path.realpath(root)
    ]
    with pytest.raises(InputError, match="not in the folder"):
        read("/etc/passwd", ["/"])


class Site(http.server.BaseHTTPRequestHandler):
    """Answers by path; counts what it was asked."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        Site.asked.append(self.path)
        moved = {
            "/same": "/a.png", "/loop": "/loop", "/other": "https://example.org/a.png",
            "/plain": f"http://127.0.0.1:{self.server.server_port}/a.png",
            "/port": "https://127.0.0.1:1/a.png", "/file": "file:///etc/passwd",
        }  # fmt: skip
        if self.path in moved:
            self.send_response(302)
            self.send_header("Location", moved[self.path])
            self.end_headers()
        elif self.path == "/gone":
            self.send_error(404)
        elif self.path in ("/large", "/endless"):
            self.send_response(200)
            if self.path == "/large":
                self.send_header("Content-Length", str(MOST + 1))
            self.end_headers()
            self.wfile.write(bytes(MOST + 1))
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def site(certificate, monkeypatch):
    """A server on this machine with a certificate that is trusted; its port."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    Site.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_listed_hosts_are_fetched_from_and_no_others(site):
    listed = [f"localhost:{site}", "127.0.0.1"]
    assert read(f"https://localhost:{site}/a.png", hosts=listed) == b"/a.png"
    assert read(f"https://localhost:{site}/a b.png?x=1&y=ä", hosts=listed) == b"/a%20b.png?x=1&y=%C3%A4"
    assert read(f"https://localhost:{site}/same", hosts=listed) == b"/a.png"
    assert read(f"https://127.0.0.1:{site}/a.png", hosts=[f"127.0.0.1:{site}"]) == b"/a.png"
    Site.asked.clear()
    for uri, hosts, words in (
        (f"https://localhost:{site}/a.png", [], "fetches nothing from localhost"),
        (f"https://localhost:{site}/a.png", ["example.org"], "fetches nothing from localhost"),
        (f"https://localhost:{site}/a.png", ["localhost"], "fetches nothing from"),  # another port
        # The name is listed, but it leads into this network, which is not.
        (f"https://localhost:{site}/a.png", [f"localhost:{site}"], "inner network"),
        (f"https://localhost.evil.org:{site}/a.png", listed, "fetches nothing from"),
        (f"https://localhost:{site}@evil.org/a.png", listed, "name and password"),
        (f"http://localhost:{site}/a.png", listed, "by https only"),
        ("https://169.254.169.254/latest/meta-data", listed, "fetches nothing from"),
        ("https://[::1]/a.png", listed, "fetches nothing from"),
        ("https://2130706433/a.png", listed, "fetches nothing from"),
        ("https://localhost:99999/a.png", listed, "is no address"),
        ("https:///a.png", listed, "fetches nothing from no host"),
    ):
        with pytest.raises(InputError, match=words):
            read(uri, hosts=hosts)
    assert Site.asked == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("other", "redirects to another host"),
        ("port", "redirects to another host"),
        ("plain", "by https only"),
        ("file", "by https only"),
        ("loop", "more than 3 times"),
        ("gone", "answered 404"),
        ("large", "more than 1,000 bytes"),
        ("endless", "more than 1,000 bytes"),
        ("a\r\nHost: evil", "cannot be fetched|%0D%0A"),
    ],
)
def test_what_a_listed_host_may_not_answer(site, path, words):
    hosts = [f"localhost:{site}", "127.0.0.0/8"]
    try:
        data = read(f"https://localhost:{site}/{path}", hosts=hosts)
    except InputError as error:
        import re

        assert re.search(words, str(error))
    else:
        assert "\r" in path
        assert b"\r" not in data
        assert b"\n" not in data
    assert not [asked for asked in Site.asked if "evil" in asked and "\n" in asked]


def test_a_host_without_a_trusted_certificate_is_not_believed(site, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    with pytest.raises(InputError, match="CERTIFICATE_VERIFY_FAILED"):
        read(f"https://localhost:{site}/a.png", hosts=[f"localhost:{site}", "127.0.0.1"])


def test_a_slow_host_is_left(certificate, monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(InputError, match="cannot be fetched"):
            read(f"https://localhost:{port}/a.png", hosts=[f"localhost:{port}", "127.0.0.1"], seconds=0.2)
