"""The module as functions use it, against what stands in for the host."""

import logging
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent.parent))

import mote
from mote import _local
from mote._serve import handler_of, serve


def ask(handler, body=b"", method="GET", path="", query=None, headers=()):
    """Status, headers and body of an answer."""
    _local.request.asked = SimpleNamespace(method=method, path=path, query=query, headers=list(headers), id="7")
    _local.response.clear()
    body = serve(handler, body)
    return _local.response.status, dict(_local.response.headers), body


class Requests(unittest.TestCase):
    def test_a_handler_sees_the_whole_request(self):
        def handle(request):
            self.assertEqual(
                (request.method, request.path, request.query_string, request.call_id), ("PUT", "/a%20b", "x=1&y=", "7")
            )
            self.assertEqual(request.query, {"x": "1", "y": ""})
            self.assertEqual(request.headers["X-Many"], "one, two")
            self.assertEqual(request.headers.get("COOKIE"), "a=1; b=2")
            self.assertIn("x-MANY", request.headers)
            self.assertIsNone(request.headers.get("none"))
            self.assertEqual((request.body, request.text(), request.json()), (b'{"a":1}', '{"a":1}', {"a": 1}))

        headers = [("x-many", "one"), ("x-many", "two"), ("cookie", "a=1"), ("cookie", "b=2")]
        answered = ask(handle, b'{"a":1}', "PUT", "/a%20b", "x=1&y=", headers)
        self.assertEqual(answered, (200, {}, b""))

    def test_the_query_may_be_missing(self):
        self.assertEqual(ask(lambda request: str((request.query_string, request.query)))[2], b"('', {})")


class Responses(unittest.TestCase):
    def test_what_a_handler_may_return(self):
        for returned, answered in [
            ("grüße", (200, {"content-type": "text/plain; charset=utf-8"}, "grüße".encode())),
            (b"\xff", (200, {"content-type": "application/octet-stream"}, b"\xff")),
            (bytearray(b"a"), (200, {"content-type": "application/octet-stream"}, b"a")),
            ({"a": [1]}, (200, {"content-type": "application/json"}, b'{"a": [1]}')),
            ([], (200, {"content-type": "application/json"}, b"[]")),
            (None, (200, {}, b"")),
            ((404, "no"), (404, {"content-type": "text/plain; charset=utf-8"}, b"no")),
            ((201, {"X-A": 1, "Content-Type": "text/x"}, "a"), (201, {"X-A": "1", "Content-Type": "text/x"}, b"a")),
            (mote.Response("a", 418, [("x", "1")]), (418, {"x": "1", "content-type": "text/plain; charset=utf-8"}, b"a")),
        ]:
            with self.subTest(returned=returned):
                self.assertEqual(ask(lambda _, returned=returned: returned), answered)

    def test_several_values_stay_several(self):
        ask(lambda _: (200, [("x", "1"), ("x", "2"), ("Content-Length", "5")], None))
        self.assertEqual(_local.response.headers, [("x", "1"), ("x", "2")])

    def test_publishing(self):
        ask(lambda _: mote.publish())
        self.assertTrue(_local.response.published)
        ask(lambda request: request.publish())
        self.assertTrue(_local.response.published)


class Failures(unittest.TestCase):
    def reason(self, handler):
        with self.assertRaises(_local.Err) as raised, self.assertLogs("captured") as logged:
            # What is written to the host's log is captured with the module's own means.
            log = _local.log.log
            _local.log.log = lambda level, message: logging.getLogger("captured").info("%s %s", level.name, message)
            try:
                ask(handler)
            finally:
                _local.log.log = log
        self.assertIn("ERROR Traceback", logged.output[0])
        return raised.exception.value

    def test_an_exception_is_the_reason(self):
        def fail(_):
            raise ValueError("no such luck")

        self.assertEqual(self.reason(fail), "no such luck")
        self.assertEqual(self.reason(lambda _: {}["x"]), "'x'")
        self.assertEqual(self.reason(lambda _: next(iter(()))), "StopIteration")

    def test_what_cannot_be_answered_is_named(self):
        self.assertIn("the handler returned object", self.reason(lambda _: object()))
        self.assertIn("the handler returned 4 values", self.reason(lambda _: (1, 2, 3, 4)))
        self.assertIn("the status 99 is not", self.reason(lambda _: (99, "")))
        self.assertIn("the status True is not", self.reason(lambda _: (True, "")))

    def test_a_handler_may_be_a_coroutine_that_waits_for_nothing(self):
        async def inner():
            return "fine"

        async def handle(_):
            return await inner()

        self.assertEqual(ask(handle)[2], b"fine")

        class Never:
            def __await__(self):
                yield

        async def hang(_):
            await Never()

        self.assertIn("no event loop", self.reason(hang))


class Modules(unittest.TestCase):
    def test_a_handler_has_one_of_two_names(self):
        self.assertEqual(ask(handler_of(SimpleNamespace(__name__="m", handle=lambda _: "a")))[2], b"a")
        both = handler_of(SimpleNamespace(__name__="m", fn=lambda input, headers: f"{input} {headers['x']}"))
        self.assertEqual(ask(both, b"hi", headers=[("x", "1")])[2], b"hi 1")
        self.assertEqual(ask(both, headers=[("x", "1")])[2], b"None 1")
        with self.assertRaisesRegex(AttributeError, "m has no function"):
            handler_of(SimpleNamespace(__name__="m"))


class Logs(unittest.TestCase):
    def test_every_way_to_log_has_its_level(self):
        said = []
        log = _local.log.log
        _local.log.log = lambda level, message: said.append(f"{level.name} {message}")
        try:
            mote.log.trace("t")
            mote.log.warn({"a": 1})
            mote.log.info("half \ud83d")
            logger = logging.getLogger("test")
            logger.debug("not at this level")
            logger.info("i %d", 1)
            logger.warning("w")
            logger.critical("c")
        finally:
            _local.log.log = log
        self.assertEqual(said, ["TRACE t", "WARN {'a': 1}", "INFO half ?", "INFO i 1", "WARN w", "ERROR c"])


class Siblings(unittest.TestCase):
    def setUp(self):
        _local.siblings["echo"] = lambda request: (202, {"x-target": f"{request.method} {request.path}"}, request.body)
        _local.siblings["fails"] = lambda request: {}["no"]

    def test_a_sibling_answers(self):
        reply = mote.call("echo", "/x?y=1", method="POST", body={"a": 1})
        self.assertEqual((reply.status, reply.headers["X-Target"], reply.json()), (202, "POST /x", {"a": 1}))
        pending = [mote.start("echo", body=body) for body in ("one", b"two")]
        self.assertEqual([one.wait().text() for one in pending], ["one", "two"])
        self.assertTrue(mote.spawn("echo"))

    def test_a_failure_of_the_sibling_is_a_reply(self):
        self.assertEqual(mote.call("fails").status, 500)

    def test_nobody_is_not_found(self):
        with self.assertRaisesRegex(mote.CallError, "nobody") as raised:
            mote.call("nobody")
        self.assertEqual(raised.exception.kind, "not-found")


class Values(unittest.TestCase):
    def setUp(self):
        self.bucket = mote.kv.open(self.id().rpartition(".")[2].replace("_", "-"))

    def test_values_come_back(self):
        bucket = self.bucket
        self.assertEqual((bucket.get("a"), bucket.get_text("a"), bucket.get_json("a")), (None, None, None))
        bucket.set("a", "grüße")
        bucket.set("b", b"\xff")
        bucket.set_json("c", [1])
        self.assertEqual((bucket.get_text("a"), bucket.get("b"), bucket.get_json("c")), ("grüße", b"\xff", [1]))
        self.assertEqual(list(bucket.keys()), ["a", "b", "c"])
        bucket.delete("a")
        self.assertFalse(bucket.has("a"))
        self.assertEqual((bucket.increment("n"), bucket.increment("n", -3)), (1, -2))

    def test_refusals_are_named(self):
        with self.assertRaisesRegex(mote.kv.KeyValueError, "value of 70000 bytes") as raised:
            self.bucket.set("a", bytes(70000))
        self.assertEqual(raised.exception.kind, "other")
        with self.assertRaises(mote.kv.KeyValueError) as raised:
            mote.kv.open("No!").get("a")
        self.assertEqual(raised.exception.kind, "no-such-store")
        self.bucket.set("text", "many")
        with self.assertRaisesRegex(mote.kv.KeyValueError, "not a number"):
            self.bucket.increment("text")

    def test_keys_come_in_pages(self):
        for number in range(1001):
            self.bucket.set(f"{number:04}", b"")
        self.assertEqual(len(list(self.bucket.keys())), 1001)

    def test_an_update_sees_what_was_there(self):
        attempts = []

        def change(old):
            attempts.append(old)
            if len(attempts) == 1:
                self.bucket.set("k", "meanwhile")
            return (old or b"none") + b"!"

        self.bucket.update("k", change)
        self.assertEqual((self.bucket.get("k"), attempts), (b"meanwhile!", [None, b"meanwhile"]))

        def always(old):
            self.bucket.set("k", str(len(attempts)))
            attempts.append(old)
            return "x"

        with self.assertRaises(mote.kv.KeyValueError) as raised:
            self.bucket.update("k", always)
        self.assertEqual(raised.exception.kind, "changed")


class Configuration(unittest.TestCase):
    def test_it_is_read(self):
        import os

        os.environ["MOTE_TEST_ROOM"] = "kitchen"
        self.assertEqual(mote.config.get("MOTE_TEST_ROOM"), "kitchen")
        self.assertEqual(mote.config.get("MOTE_TEST_NONE", "cellar"), "cellar")
        self.assertEqual(mote.config.all()["MOTE_TEST_ROOM"], "kitchen")


if __name__ == "__main__":
    unittest.main()
