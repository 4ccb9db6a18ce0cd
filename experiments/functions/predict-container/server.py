"""A prediction from three parameters behind a plain HTTP server: a function of its own, and the bare server beside it.

The thesis about OpenFaaS on Raspberry Pis measured "simple Python3 based scripts that input three static parameters
and output prediction values" (§5), sent as JSON (§6.1), as a function and behind Python's `http.server` without a
platform (§5, §7). Its model is not described. This is that of `examples/predict`, a logistic model: the same shape of
request, and about the least work that a prediction can be. What the thesis measured is the way there and back as well.

    HOST=127.0.0.1 PORT=8000 python3 server.py
"""

import json
import math
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEIGHTS = {"temperature": 0.08, "humidity": -0.03, "vibration": 1.9}
BIAS = -2.4


def predict(body):
    """Status and answer."""
    try:
        reading = json.loads(body)
        score = BIAS + sum(weight * float(reading[name]) for name, weight in WEIGHTS.items())
        return 200, {"probability": round(1 / (1 + math.exp(-score)), 4)}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return 400, {"error": f"a reading has the numbers {', '.join(WEIGHTS)}: {error!r}"}


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
        status, value = predict(self.rfile.read(int(self.headers.get("content-length", 0))))
        reply = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = Server((os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("PORT", "8000"))), Connection)
    host, port = server.server_address[:2]
    print(f"http http://{host}:{port}", flush=True)
    server.serve_forever()
