"""The one port clients see: a CONNECT proxy that ends TLS and hands gRPC and HTTP to their front ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from localvertex.redirect import PROXIED_DOMAIN

_PIECE = 256 * 1024
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost"})


class Proxy:
    """Accepts `CONNECT <host>.googleapis.com:443` and plain HTTP to itself; refuses every other host.

    Args:
        tls: presents a certificate for the proxied hosts, offers `h2` and `http/1.1`.
        grpc_port: on 127.0.0.1, takes HTTP/2 without TLS.
        http_port: on 127.0.0.1, takes HTTP/1.1.
    """

    def __init__(self, tls: ssl.SSLContext, grpc_port: int, http_port: int) -> None:
        self._tls = tls
        self._grpc_port = grpc_port
        self._http_port = http_port
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, listening: socket.socket) -> asyncio.Server:
        """Accept clients on a socket that listens."""
        return await asyncio.start_server(self._accept, sock=listening, limit=_PIECE)

    async def close(self) -> None:
        """Drop the clients that are still connected."""
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # close() asked for it; asyncio would print it
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            await _answer(writer, "431 Request Header Fields Too Large", "The headers are too large.\n")
            return
        line, _, headers = head.partition(b"\r\n")
        verb, _, target = line.decode("latin-1").partition(" ")
        target = target.partition(" ")[0]
        if verb == "CONNECT":
            await self._tunnel(target, reader, writer)
        elif target.startswith("/") and _host(headers) in _LOCAL_HOSTS:
            await self._hand_over(self._http_port, reader, writer, head)
        else:
            await _refuse(writer, target)

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.partition(":")
        if not host.lower().endswith(PROXIED_DOMAIN) or port != "443":
            await _refuse(writer, target)
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await writer.start_tls(self._tls)
        encrypted = writer.get_extra_info("ssl_object")
        grpc = encrypted is not None and encrypted.selected_alpn_protocol() == "h2"
        await self._hand_over(self._grpc_port if grpc else self._http_port, reader, writer)

    async def _hand_over(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes = b""
    ) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", port, limit=_PIECE)
        try:
            ahead.write(head)
            directions = {
                asyncio.create_task(_pipe(reader, ahead)),
                asyncio.create_task(_pipe(behind, writer)),
            }
            try:
                # TLS cannot be closed one way only: when either side ends, so does the other.
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        finally:
            ahead.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, target: str) -> None:
    message = (
        f"localvertex refuses {target}: its proxy reaches nothing but localvertex itself. "
        "Unset HTTPS_PROXY to reach the Internet.\n"
    )
    await _answer(writer, "403 Refused by localvertex", message)


async def _answer(writer: asyncio.StreamWriter, status: str, message: str) -> None:
    body = message.encode()
    writer.write(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await writer.drain()


def _host(headers: bytes) -> str:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"host":
            return value.strip().decode("latin-1").rsplit(":", 1)[0].lower()
    return ""
