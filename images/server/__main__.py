"""Starts the server: `python -m images.server`, set up by Vertex's AIP_* environment variables.

AIP_STORAGE_URI       the SavedModel: gs://… or a path
AIP_HTTP_PORT         default 8080
AIP_HEALTH_ROUTE      default /health
AIP_PREDICT_ROUTE     default /predict
UVICORN_HOST          the address to listen on, default 127.0.0.1

The port opens when the model is loaded. SIGTERM ends it after the requests under way.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images import executor
from images.executor import UserError
from images.server import storage


def main(argv: Sequence[str]) -> None:
    """Serves until told to stop."""
    if argv:
        print(__doc__)
        sys.exit(0 if argv[0] in ("-h", "--help") else 2)
    uri = os.environ.get("AIP_STORAGE_URI", "")
    if not uri:
        raise UserError("AIP_STORAGE_URI is not set; give the SavedModel's place, gs://… or a path")
    port = _port(os.environ.get("AIP_HTTP_PORT", "8080"))
    health = os.environ.get("AIP_HEALTH_ROUTE", "/health")
    predict = os.environ.get("AIP_PREDICT_ROUTE", "/predict")
    host = os.environ.get("UVICORN_HOST", "127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="saved-model-") as folder:
        local = storage.fetch(uri, Path(folder))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import uvicorn

        from images.server.app import app
        from images.server.servable import Servable

        servable = Servable(local)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again once it has shut down.
        print(f"serving {uri} on http://{host}:{port}{predict}")
        uvicorn.run(
            app(servable, health, predict),
            host=host,
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=20,
        )


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise UserError(f"AIP_HTTP_PORT={text}: must be a port number, 1 to 65535")
    return int(text)


if __name__ == "__main__":
    executor.run(main)
