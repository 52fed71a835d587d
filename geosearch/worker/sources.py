"""Where the picture of a question may come from: the folders of archives, and hosts that are listed. Nothing else.

Whoever may ask chooses these addresses, so each is taken for hostile: no way out of the folders, no plain http, no
address inside the network unless it is listed itself, no redirection to another host, never more than so many bytes.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import socket
import ssl
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from geosearch.embedding.files import locate
from geosearch.errors import InputError

REDIRECTS = 3
_PIECE = 64 * 1024
_MOVED = (301, 302, 303, 307, 308)


def read_source(
    uri: str, *, roots: Sequence[str], base: str | None, hosts: Sequence[str], max_bytes: int, seconds: float
) -> bytes:
    """Return the bytes of a picture. Raises InputError for whatever may not or cannot be read.

    roots: folders of the archives. base: the folder that a relative path is meant in. hosts: names (`host` or
    `host:port`), addresses and networks from which https may fetch. seconds: for the whole of a fetch.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)
    if scheme and scheme[1].lower() in ("http", "https"):
        return _fetch(uri, hosts, max_bytes, time.monotonic() + seconds)
    if scheme and scheme[1].lower() != "file" and "://" in uri:
        raise InputError(f"{uri}: give a file in the folder of an archive, or an https address")
    return _read_file(uri, roots, base, max_bytes)


def local_roots(roots: Iterable[str | None]) -> list[str]:
    """Return the folders of this machine among the roots of archives, symbolic links resolved; never the whole disk."""
    found = set()
    for root in roots:
        if not root or "\0" in root or not (Path(root).is_absolute() or root.startswith("file:")):
            continue
        try:
            found.add(os.path.realpath(locate(root, None)))
        except InputError:
            continue  # of another machine
    return sorted(root for root in found if Path(root).parent != Path(root))


def _read_file(uri: str, roots: Sequence[str], base: str | None, max_bytes: int) -> bytes:
    real = os.path.realpath(locate(uri, base))
    # The same words whether or not there is such a file: nobody learns what else lies on this machine.
    if not any(real.startswith(root.rstrip(os.sep) + os.sep) for root in local_roots(roots)):
        raise InputError(f"{uri}: is not in the folder of an archive; send the picture itself (image => bytes)")
    try:
        # Not through a link that was put there meanwhile; and a pipe must not make this wait.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise InputError(f"{uri}: is no file")
            data = b"" if facts.st_size > max_bytes else file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"{uri}: cannot be read ({error.strerror})") from error
    if len(data) > max_bytes or not data:
        raise InputError(f"{uri}: " + (_too_large(max_bytes) if data or facts.st_size else "the file is empty"))
    return data


def _fetch(uri: str, hosts: Sequence[str], max_bytes: int, end: float) -> bytes:
    first = None
    for _ in range(REDIRECTS + 1):
        try:
            parts = urlsplit(uri)
            host, port = (parts.hostname or "").rstrip("."), parts.port or 443
        except ValueError as error:
            raise InputError(f"{uri}: is no address ({error})") from error
        if parts.scheme.lower() != "https":
            raise InputError(f"{uri}: is fetched by https only")
        if parts.username is not None or parts.password is not None:
            raise InputError(f"{uri}: leave name and password out")
        if first is not None and (host, port) != first:
            raise InputError(f"{uri}: the address redirects to another host ({host}); give the last one")
        first = host, port
        if not _listed(host, port, hosts):
            raise InputError(
                f"{uri}: the worker fetches nothing from {host or 'no host'}; send the picture itself (image => "
                "bytes), or let who runs the worker list the host in GEOSEARCH_IMAGE_HOSTS"
            )
        try:
            answer = _get(host, port, parts.path, parts.query, hosts, max_bytes, end)
        except InputError as error:
            raise InputError(f"{uri}: {error}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError(f"{uri}: cannot be fetched ({error or type(error).__name__})") from error
        if isinstance(answer, bytes):
            return answer
        uri = urljoin(uri, answer)
    raise InputError(f"{uri}: redirects more than {REDIRECTS} times")


def _get(host: str, port: int, path: str, query: str, hosts: Sequence[str], max_bytes: int, end: float) -> bytes | str:
    """Return the body, or where it has moved to."""
    connection = _Pinned(host, port, _address(host, port, hosts), max(1.0, end - time.monotonic()))
    try:
        target = quote(path or "/", safe="/%:@!$&'()*+,;=~-._") + (
            f"?{quote(query, safe='%/?:@!$&()*+,;=~-._')}" if query else ""
        )
        connection.request("GET", target, headers={"User-Agent": "geosearch", "Accept-Encoding": "identity"})
        response = connection.getresponse()
        if response.status in _MOVED and (location := response.getheader("Location")):
            return location
        if response.status != 200:
            raise InputError(f"the server answered {response.status} {response.reason}")
        if int(response.getheader("Content-Length") or 0) > max_bytes:
            raise InputError(_too_large(max_bytes))
        data = bytearray()
        while piece := response.read1(_PIECE):
            data += piece
            if len(data) > max_bytes:
                raise InputError(_too_large(max_bytes))
            if time.monotonic() > end:
                raise InputError("the server is too slow")
        if not data:
            raise InputError("the server sent nothing")
        return bytes(data)
    finally:
        connection.close()


class _Pinned(http.client.HTTPSConnection):
    """A connection to the very address that was looked at: a name may mean another one the next time it is asked."""

    def __init__(self, host: str, port: int, address: str, timeout: float) -> None:
        self.tls = ssl.create_default_context()
        super().__init__(host, port, timeout=timeout, context=self.tls)
        self.address = address

    def connect(self) -> None:
        plain = socket.create_connection((self.address, self.port), self.timeout)
        try:
            self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _address(host: str, port: int, hosts: Sequence[str]) -> str:
    """Return the address of a host; InputError where one of them is of an inner network and is not listed itself."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if (not address.is_global or address.is_multicast) and not _network_listed(address, hosts):
            raise InputError(f"{host} is an address of an inner network")
    return found[0]


def _listed(host: str, port: int, hosts: Sequence[str]) -> bool:
    names = [entry.strip().lower() for entry in hosts]
    host = host.lower()
    if f"{host}:{port}" in names or f"[{host}]:{port}" in names or (port == 443 and host in names):
        return bool(host)
    try:
        return port == 443 and _network_listed(ipaddress.ip_address(host), hosts)
    except ValueError:
        return False


def _network_listed(address: ipaddress.IPv4Address | ipaddress.IPv6Address, hosts: Sequence[str]) -> bool:
    for entry in hosts:
        text = entry.strip()
        # 10.0.0.5, 10.0.0.0/8, 10.0.0.5:8443, [::1]:8443
        text = re.sub(r"^\[(.*)\](:\d+)?$", r"\1", text)
        text = re.sub(r"^(\d+\.\d+\.\d+\.\d+):\d+$", r"\1", text)
        try:
            if address in ipaddress.ip_network(text, strict=False):
                return True
        except ValueError:
            continue
    return False


def _too_large(max_bytes: int) -> str:
    return f"more than {max_bytes:,} bytes; send a smaller picture"
