"""HTTP/1.1 as clients of Cloud Storage speak it: with a header that its later revision dropped."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_NO_ENCODING = b"\r\nTransfer-Encoding: identity\r\n"


class HttpProtocol(H11Protocol):
    """Reads `Transfer-Encoding: identity` as what it means, nothing; TensorFlow's uploads have it (RFC 2616, 3.6)."""

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived (asyncio.Protocol)."""
        if self.conn.their_state is h11.IDLE:
            head, end, body = data.partition(b"\r\n\r\n")
            data = (head + b"\r\n").replace(_NO_ENCODING, b"\r\n").removesuffix(b"\r\n") + end + body
        super().data_received(data)
