"""Serves a Python handler over HTTP/1.1 on $PORT, with a process forked for each call.

For where no node forks for it: in a container. A call sees what it sees elsewhere, globals as they were
after the import included. The node bounds bodies and time; whatever else reaches the port is of the same app,
and bounded by the container's memory and processes.
"""

import gc
import os
import signal
from http.server import BaseHTTPRequestHandler
from socketserver import ForkingMixIn, TCPServer

READY_PATH = "/.mote/ready"
CALLS_MAX = 1024
LINE_BYTES_MAX = 64 << 10


def main(path, loader):
    _, call = loader.load(path)
    # Shared with every call, see the loader.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server(("", int(os.environ["PORT"])), handler_of(call, loader)).serve_forever()


class Server(ForkingMixIn, TCPServer):
    allow_reuse_address = True
    request_queue_size = 128
    max_children = CALLS_MAX
    block_on_close = False


def handler_of(call, loader):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name):
            if name.startswith("do_"):
                return self.serve
            raise AttributeError(name)

        def serve(self):
            # The process is the call's, and so is its connection.
            self.close_connection = True
            if self.path == READY_PATH:
                return self.answer(200, [], b"ready")
            path, _, query = self.path.partition("?")
            request = {
                "method": self.command,
                "path": path,
                "query": query,
                "headers": [(name.lower(), value) for name, value in self.headers.items()],
                "call_id": self.headers.get("mote-call-id", ""),
                "timeout_ms": int(self.headers.get("mote-timeout-ms") or 0),
            }
            head, body, _ = loader.answer(call, loader.Request(request, self.read_body()))
            loader.flush()
            if "error" in head:
                # What the node says of a process whose handler failed.
                return self.answer(502, [("content-type", "text/plain; charset=utf-8")], (head["error"] + "\n").encode())
            published = [("mote-publish", "true")] if head["publish"] else []
            self.answer(head["status"], head["headers"] + published, body)

        def read_body(self):
            if "chunked" not in self.headers.get("transfer-encoding", "").lower():
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            pieces = []
            while size := int(self.rfile.readline(LINE_BYTES_MAX).split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline(LINE_BYTES_MAX)
            while self.rfile.readline(LINE_BYTES_MAX).strip():
                pass  # trailers
            return b"".join(pieces)

        def answer(self, status, headers, body):
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("connection", "close")
            has_body = status not in (204, 304)
            if has_body:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            if has_body and self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler
