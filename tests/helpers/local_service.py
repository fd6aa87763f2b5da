"""Runs a stand-in of a web service in this process, on a free port."""

from __future__ import annotations

import contextlib
import http.server
import threading


@contextlib.contextmanager
def serving(handler):
    """Yields the URL of a service that ends with the block.

    Args:
      handler: the class of its request handlers.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
