"""Serves a Python handler: imports it once, and forks a process for each call.

The node talks to this process, the zygote, over the SOCK_SEQPACKET socket it finds as descriptor 3, one
JSON object in each packet:

    node   -> zygote  {"kind": "fork", "id": 7, "calls": 1} with the descriptors of the worker's stream,
                      its standard output and error, and of cgroup.procs files to join
                      {"kind": "kill", "id": 7}
                      {"kind": "serve", "arguments": ["/app/handler.py"], "env": {"ROOM": "kitchen"}}
    zygote -> node    {"kind": "waiting"}
                      {"kind": "ready", "handler": "handle", "threads": 1}
                      {"kind": "failed", "why": "ImportError: ..."}, and the zygote exits
                      {"kind": "forked", "id": 7, "pid": 12} or {"kind": "refused", "id": 7, "why": "..."}
                      {"kind": "gone", "id": 7, "how": "exit 0"}

A worker reads requests from its stream and answers there: four bytes of length (big-endian), a JSON head,
and the body whose length the head says. It ends after its number of calls, or when the stream ends.

Started without a handler it says that it waits, and is told which one to serve, and all its variables, by one
message: until then it has no code of anybody, and its sandbox is no app's.

Without that socket, as in a container, it serves HTTP instead (`over_http.py`).

The zygote is process 1 of its PID namespace: it reaps whatever ends, and a process that left its call's
session is ended with the next call that ends. What a call does, a crash included, is that call's failure.
Nothing beyond the standard library is used, and little of that, because a cold start pays for it.
"""

import gc
import json
import os
import select
import signal
import sys

import _socket  # the module `socket` around it costs milliseconds of every cold start

CONTROL = 3
PACKET_BYTES_MAX = 64 << 10
HEAD_BYTES_MAX = 1 << 20
DESCRIPTORS_MAX = 16
WHY_CHARS_MAX = 1000


def main():
    control = control_socket()
    if control is None:
        return __import__("over_http").main(sys.argv[1], sys.modules[__name__])
    control.setblocking(True)
    os.set_inheritable(CONTROL, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    if len(sys.argv) == 1:
        wait(control)
    try:
        name, call = load(sys.argv[1])
    except BaseException as error:
        report(error)
        flush()
        tell(control, kind="failed", why=last_line(error))
        os._exit(1)
    threads = threads_now()
    if threads > 1:
        warning = "%d threads were started by the import; they do not exist in the processes of calls"
        print(warning % (threads - 1), file=sys.stderr)
    # What exists now is shared with every worker: collected once, then left alone, so that no collection
    # in a worker writes to these pages and has them copied.
    gc.collect()
    gc.freeze()
    Zygote(control, call).run(name, threads)


def control_socket():
    try:
        return _socket.socket(fileno=CONTROL)
    except OSError:
        return None


def wait(control):
    # What there is now need not be looked at again when the code is there.
    gc.collect()
    gc.freeze()
    tell(control, kind="waiting")
    packet = control.recv(PACKET_BYTES_MAX)
    if not packet:
        os._exit(0)
    message = json.loads(packet)
    os.environ.update(message["env"])
    sys.argv += message["arguments"]


# --- the code -------------------------------------------------------------------------------------------


def load(path):
    """Imports the handler and returns its name and a function from a request to its answer."""
    folder, file = os.path.split(os.path.abspath(path))
    set_path(folder)
    os.chdir(folder)
    module = __import__(file.rsplit(".", 1)[0])
    for name, style in (("handle", lambda handle: handle), ("fn", tiny_faas)):
        function = getattr(module, name, None)
        if callable(function):
            if is_async(function):
                __import__("asyncio")
            return name, style(function)
    raise ImportError("%s defines neither handle(request) nor fn(input, headers)" % file)


def set_path(folder):
    """The function's folder and its packages first; packages of the system last."""
    version = "python%d.%d" % sys.version_info[:2]
    system = [
        os.path.join(prefix, "lib", python, packages)
        for prefix in dict.fromkeys((sys.prefix, "/usr/local", "/usr"))
        for python in ("python3", version)
        for packages in ("dist-packages", "site-packages")
    ]
    # The first place is this file's folder, which is none of the function's business.
    sys.path[:1] = [folder, os.path.join(folder, "packages")]
    sys.path += [place for place in system if os.path.isdir(place)]
    # The module `site`, which is left out, would have made these.
    builtins = sys.modules["builtins"]
    builtins.exit = builtins.quit = sys.exit


def tiny_faas(function):
    """A handler in the manner of tinyFaaS: fn(input, headers) or fn(input), text or None."""
    code = getattr(function, "__code__", None)
    wants_headers = code is None or code.co_argcount > 1 or code.co_flags & 0x04

    def call(request):
        text = request.text() or None
        if not wants_headers:
            return function(text)
        return function(text, {key.title(): value for key, value in request.headers.items()})

    return call


def is_async(function):
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & 0x80)  # CO_COROUTINE


def threads_now():
    """All of them, also those that Python does not know of."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


# --- the zygote -----------------------------------------------------------------------------------------


class Zygote:
    def __init__(self, control, call):
        self.control = control
        self.call = call
        self.ids = {}  # of workers, by pid
        self.pids = {}  # of workers, by id
        self.own = set()  # children that the import started
        self.alarm = os.pipe()  # a byte for each signal

    def run(self, name, threads):
        for end in self.alarm:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self.alarm[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.own = set(self.children())
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.alarm[0], select.POLLIN)
        self.tell(kind="ready", handler=name, threads=threads)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.alarm[0] in ready:
                self.reap()
            if CONTROL in ready:
                self.listen()

    def listen(self):
        space = _socket.CMSG_SPACE(4 * DESCRIPTORS_MAX)
        try:
            packet, ancillary, *_ = self.control.recvmsg(PACKET_BYTES_MAX, space, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:  # the node went without reading its last messages
            packet, ancillary = b"", ()
        descriptors = [
            int.from_bytes(data[at : at + 4], sys.byteorder)
            for level, kind, data in ancillary
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
            for at in range(0, len(data) - len(data) % 4, 4)
        ]
        if not packet:
            self.end()  # the node closed its end, or is gone
        message = json.loads(packet)
        if message["kind"] == "fork":
            try:
                self.fork(message["id"], message["calls"], descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
        elif message["kind"] == "kill" and message["id"] in self.pids:
            kill_group(self.pids[message["id"]])

    def fork(self, worker, calls, descriptors):
        flush()
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(kind="refused", id=worker, why=last_line(error))
            return
        if pid == 0:
            try:
                work(self, descriptors, calls)
            except BaseException as error:
                report(error)
            finally:
                flush()
                os._exit(1)
        self.ids[pid] = worker
        self.pids[worker] = pid
        self.tell(kind="forked", id=worker, pid=pid)

    def reap(self):
        try:
            while os.read(self.alarm[0], 4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                # It keeps its number until it has been waited for, so that nobody else's group is killed.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            worker = self.ids.pop(ended.si_pid, None)
            if worker is not None:
                kill_group(ended.si_pid)
            os.waitpid(ended.si_pid, 0)
            self.own.discard(ended.si_pid)
            self.end_strays()
            if worker is not None:
                del self.pids[worker]
                kind = "exit" if ended.si_code == os.CLD_EXITED else "signal"
                self.tell(kind="gone", id=worker, how="%s %d" % (kind, ended.si_status))

    def end_strays(self):
        """Ends processes that were left behind and belong to no call that is under way."""
        for pid in self.children():
            if pid in self.ids or pid in self.own:
                continue
            try:
                # Only ever a child of this very process, by the kernel's own word.
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if os.getsid(pid) not in self.ids:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue

    def children(self):
        """The children by their numbers here. /proc may count in an outer namespace."""
        try:
            with open("/proc/self/task/%s/children" % os.readlink("/proc/self")) as file:
                outer = file.read().split()
        except OSError:
            return
        if len(outer) == len(self.ids) + len(self.own):
            return (yield from (*self.ids, *self.own))
        for number in outer:
            try:
                with open("/proc/%s/status" % number) as file:
                    names = [line for line in file if line.startswith("NSpid:")]
            except OSError:
                continue
            if names:
                yield int(names[0].split()[-1])

    def tell(self, **message):
        tell(self.control, **message)

    def end(self):
        """Ends every worker and this process. In a PID namespace that ends all processes in it."""
        for pid in self.ids:
            kill_group(pid)
        flush()
        os._exit(0)


def tell(control, **message):
    try:
        control.send(json.dumps(message).encode()[:PACKET_BYTES_MAX])
    except OSError:
        os._exit(0)  # without a node there is nothing to do


def kill_group(pid):
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except OSError:
            pass


# --- a worker -------------------------------------------------------------------------------------------


def work(zygote, descriptors, calls):
    """Becomes a process of its own and serves requests. Does not return."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    stream, output, errors, *cgroups = descriptors
    for cgroup in cgroups:
        os.write(cgroup, b"0")
        os.close(cgroup)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for descriptor in (output, errors, *zygote.alarm):
        os.close(descriptor)
    zygote.control.close()
    try:
        # When memory runs out, a call goes before the zygote that all of them need.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass
    # The module `random` sees to itself after a fork.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()

    left = calls
    while left > 0:
        frame = read_frame(stream)
        if frame is None:
            break
        left -= 1
        head, body, fatal = answer(zygote.call, Request(*frame))
        head["last"] = fatal or left == 0
        flush()
        write_frame(stream, head, body)
        if fatal:
            break
    os._exit(0)


def answer(call, request):
    """Calls the handler. Returns head and body of the answer, and whether the process is done for."""
    try:
        result = call(request)
        if hasattr(result, "__await__"):
            result = __import__("asyncio").run(until_done(result))
        status, headers, body = unpack(result)
        head = {"status": status, "headers": headers, "publish": request.is_published, "body_length": len(body)}
        return head, body, False
    except BaseException as error:
        report(error)
        fatal = not isinstance(error, Exception) or isinstance(error, MemoryError)
        return {"error": last_line(error), "body_length": 0}, b"", fatal


async def until_done(awaitable):
    return await awaitable


def unpack(result):
    """Status, headers and body of what a handler returned."""
    status, headers = 200, {}
    if isinstance(result, tuple):
        if len(result) == 2:
            status, result = result
        elif len(result) == 3:
            status, headers, result = result
        else:
            raise TypeError("the handler returned %d values; return (status, body) or (status, headers, body)" % len(result))
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError("the handler returned the status %r, which is not a number from 200 to 599" % (status,))
    body, kind = encode(result)
    pairs = headers.items() if hasattr(headers, "items") else headers
    pairs = [(str(name), str(value)) for name, value in pairs or ()]
    if kind and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("content-type", kind))
    return status, pairs, body


def encode(value):
    if value is None:
        return b"", None
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), "application/octet-stream"
    if isinstance(value, (dict, list)):
        return json.dumps(value).encode(), "application/json"
    raise TypeError("the handler returned %s; return str, bytes, dict, list or None" % type(value).__name__)


class Request:
    """One call. `headers` are a dict by lower-case name; `query` one of the last value of each name."""

    def __init__(self, head, body):
        self.method = head["method"]
        self.path = head["path"]
        self.query_string = head["query"] or ""
        self.headers = Headers()
        for name, value in head["headers"]:
            known = self.headers.get(name)
            self.headers[name] = value if known is None else known + (";" if name == "cookie" else ",") + " " + value
        self.call_id = head["call_id"]
        self.timeout = head["timeout_ms"] / 1000
        self.body = body
        self.is_published = False

    @property
    def query(self):
        parse = __import__("urllib.parse").parse.parse_qsl
        return dict(parse(self.query_string, keep_blank_values=True))

    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def publish(self):
        """Makes the answer the published value of this path and query."""
        self.is_published = True


class Headers(dict):
    """Names are lower-case inside, and any case outside."""

    def __getitem__(self, name):
        return dict.__getitem__(self, name.lower())

    def __contains__(self, name):
        return dict.__contains__(self, name.lower())

    def get(self, name, default=None):
        return dict.get(self, name.lower(), default)


# --- frames and words -----------------------------------------------------------------------------------


def read_frame(stream):
    start = read_exactly(stream, 4, may_end=True)
    if start is None:
        return None
    length = int.from_bytes(start, "big")
    if length > HEAD_BYTES_MAX:
        raise ValueError("a head of %d bytes is longer than %d" % (length, HEAD_BYTES_MAX))
    head = json.loads(read_exactly(stream, length))
    return head, bytes(read_exactly(stream, head["body_length"]))


def read_exactly(stream, length, may_end=False):
    data = bytearray(length)
    view, have = memoryview(data), 0
    while have < length:
        count = os.readv(stream, [view[have:]])
        if count == 0:
            if may_end and have == 0:
                return None
            raise EOFError("the request ended after %d of %d bytes" % (have, length))
        have += count
    return data


def write_frame(stream, head, body):
    head = json.dumps(head).encode()
    if len(head) > HEAD_BYTES_MAX:
        head = json.dumps({"error": "the headers of the answer are too long", "body_length": 0}).encode()
        body = b""
    for part in (len(head).to_bytes(4, "big") + head, body):
        view = memoryview(part)
        while view:
            view = view[os.write(stream, view) :]


def report(error):
    """Writes the traceback to the log, without the part that is this file's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        sys.__excepthook__(type(error), error.with_traceback(trace), trace)
    except BaseException:
        pass


def last_line(error):
    try:
        lines = str(error).strip().splitlines()
    except BaseException:
        lines = []
    name = type(error).__name__
    return (name + ": " + lines[0] if lines else name)[:WHY_CHARS_MAX]


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


if __name__ == "__main__":
    main()
