"""Protects the redirect: TLS ends at the proxy, ALPN decides the back end, no other host is reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from localvertex.access import Access
from localvertex.home import Home
from localvertex.proxy import Proxy

STORAGE = "storage.googleapis.com"


async def _back_end(name: bytes) -> asyncio.Server:
    """Answers its name, then echoes what it is sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(echo, "127.0.0.1", 0)


class Client:
    """A client of a proxy under test."""

    def __init__(self, port: int, home: Home) -> None:
        self.port = port
        self.home = home

    async def connect(self, head: bytes) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head)
        return await reader.readuntil(b"\r\n\r\n"), reader, writer

    async def tunnel(self, host: str, protocols: list[str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        answer, reader, writer = await self.connect(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200")
        context = ssl.create_default_context(cafile=str(self.home.keys / "ca.pem"))
        context.set_alpn_protocols(protocols)
        await writer.start_tls(context, server_hostname=host)
        return reader, writer


def run(tmp_path: Path, scenario: object) -> None:
    async def main() -> None:
        home = Home(tmp_path / "state").create()
        grpc, http = await _back_end(b"grpc"), await _back_end(b"http")
        proxy = Proxy(Access(home).server_tls(), _port(grpc), _port(http))
        listening = socket.create_server(("127.0.0.1", 0))
        front = await proxy.start(listening)
        try:
            await scenario(Client(_port(front), home))  # type: ignore[operator]
        finally:
            front.close()
            await proxy.close()

    asyncio.run(main())


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("offered", "back_end"),
    [
        (["h2"], b"grpc"),
        (["grpc-exp", "h2"], b"grpc"),
        (["http/1.1"], b"http"),
        (["h2", "http/1.1"], b"http"),
        ([], b"http"),
    ],
)
def test_protocol_decides_the_back_end(tmp_path: Path, offered: list[str], back_end: bytes) -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await client.tunnel("us-central1-aiplatform.googleapis.com", offered)
        assert await reader.readexactly(4) == back_end
        writer.close()

    run(tmp_path, scenario)


def test_bulk_passes_both_ways_unchanged(tmp_path: Path) -> None:
    sent = bytes(range(256)) * (16 << 10)

    async def scenario(client: Client) -> None:
        reader, writer = await client.tunnel(STORAGE, ["http/1.1"])
        await reader.readexactly(4)
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        writer.close()

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT example.com:443",
        "CONNECT googleapis.com.example.com:443",
        "CONNECT notgoogleapis.com:443",
        "CONNECT storage.googleapis.com:80",
        "CONNECT 127.0.0.1:22",
        "CONNECT 142.250.1.1:443",
        "CONNECT [::1]:443",
        "CONNECT storage.googleapis.com:8443",
        "CONNECT storage.googleapis.com",
        "CONNECT storage.googleapis.com@example.com:443",
        "GET http://example.com/",
        "GET http://storage.googleapis.com/",
        "GET https://storage.googleapis.com/",
        "GET http://127.0.0.1/",
        "POST http://169.254.169.254/computeMetadata/v1/",
        "OPTIONS *",
    ],
)
def test_other_hosts_are_refused(tmp_path: Path, request_line: str) -> None:
    async def scenario(client: Client) -> None:
        answer, reader, _ = await client.connect(f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"localvertex refuses" in await reader.read()

    run(tmp_path, scenario)


def test_plain_requests_reach_http_under_a_local_name_alone(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"
        writer.write(head)
        assert await reader.readexactly(4 + len(head)) == b"http" + head
        writer.close()
        # A page elsewhere whose name resolves here must not get in.
        answer, _, _ = await client.connect(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403")

    run(tmp_path, scenario)


def test_headers_are_bounded(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * (1 << 20) + b"\r\n\r\n"
        answer, _, _ = await client.connect(head)
        assert answer.startswith(b"HTTP/1.1 431")

    run(tmp_path, scenario)


def test_nonsense_and_silence_do_not_stop_it(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        for nonsense in (b"\x16\x03\x01\x00\x00", b"\r\n\r\n", b"x" * 300_000, b""):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(nonsense)
            writer.close()
        reader, writer = await client.tunnel(STORAGE, ["http/1.1"])
        assert await reader.readexactly(4) == b"http"
        writer.close()

    run(tmp_path, scenario)
