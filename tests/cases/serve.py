# Serves `handle(request)`, which stands above, by the contract `http`: the same source that the
# environment `python3` serves without this. A handler that raises takes the whole program with it.
import http.server as _server
import os as _os
import socketserver as _socketserver
import sys as _sys


class _Request:
    def __init__(self, handler):
        self.method = handler.command
        self.path, _, self.query_string = handler.path.partition("?")
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers.get("content-length", 0)))

    def text(self):
        return self.body.decode()


class _Handler(_server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def serve(self):
        try:
            result = handle(_Request(self))
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=_sys.stderr, flush=True)
            _os._exit(3)
        status, headers, body = result if isinstance(result, tuple) else (200, {}, result)
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve


class _Server(_socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


_Server(("", int(_os.environ["PORT"])), _Handler).serve_forever()
