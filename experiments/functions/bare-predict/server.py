"""The code of `examples/predict` behind a bare HTTP server, without a platform.

The thesis about OpenFaaS on Raspberry Pis compares with its script behind Python's `http.server` in a
pod of Kubernetes (§5) and asks what a server without any of that would do (§7): this is that server.

What the thesis computes is "simple Python3 based scripts that input three static parameters and output
prediction values" (§5), sent as JSON (§6.1); its model is not described. `examples/predict` takes JSON
with three numbers and answers the value of a logistic model: the same shape of request, and about the
least work that a prediction can be. What the thesis measured is the way there and back as well.

    HOST=127.0.0.1 PORT=8000 python3 server.py
"""

import importlib.util
import json
import os
import pathlib
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SOURCE = pathlib.Path(__file__).resolve().parents[3] / "examples/predict/handler.py"


def load(path):
    spec = importlib.util.spec_from_file_location("handler", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Request:
    """As much of a function's request as the handler asks for."""

    def __init__(self, body):
        self.body = body

    def json(self):
        return json.loads(self.body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # As many clients as the thesis has, and more, connect at the same time.
    request_queue_size = 1024


class Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # The head and the body of a reply go out together.
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = HANDLER.handle(Request(body))
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        reply = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    HANDLER = load(SOURCE)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = Server((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))), Connection)
    host, port = server.server_address[:2]
    print(f"http http://{host}:{port}", flush=True)
    server.serve_forever()
