"""The function that every language has: see the table in README.md of the folder above."""

from urllib.parse import unquote

from mote import CallError, Response, call, config, kv, log, publish, spawn, start


def handle(request):
    _, first, *rest = (request.path or "/").split("/")
    serve = PATHS.get(first)
    return serve(request, "/".join(rest)) if serve else no_such("path")


def no_such(what):
    return 404, f"no such {what}"


def echo(request, _):
    kind = request.headers.get("content-type")
    return 200, {"content-type": kind} if kind else {}, request.body


def json_sum(request, _):
    try:
        given = request.json()
        if not isinstance(given, dict):
            raise TypeError("an object is needed")
        name, numbers = given["name"], given["numbers"]
        if not isinstance(name, str) or not isinstance(numbers, list) or not all(map(is_whole, numbers)):
            raise TypeError("`name` and `numbers` are needed")
    except (ValueError, KeyError, TypeError) as error:
        return 400, f"bad JSON: {error}"
    greeting = f'{{"greeting":{quoted("hello, " + name)},"sum":{sum(numbers)}}}'
    return Response(greeting, headers={"content-type": "application/json"})


def is_whole(number):
    return isinstance(number, int) and not isinstance(number, bool)


def quoted(text):
    import json

    return json.dumps(text, ensure_ascii=False)


def fail(_, __):
    raise RuntimeError("no such luck")


def status(_, number):
    return int(number), f"status {number}"


def headers(request, _):
    lines = [f"{name}: {request.headers.get(name, '-')}\n" for name in ("x-test", "x-many")]
    replied = [("x-reply", "yes"), ("x-several", "one"), ("x-several", "two")]
    return 200, replied, "".join(lines)


def where(request, _):
    lines = (request.method, request.path, request.query_string, request.query.get("name"))
    return "".join(f"{line or '-'}\n" for line in lines)


def log_lines(_, __):
    log.trace("this is trace")
    log.debug("this is debug")
    log.info("this is info")
    log.warn("this is warn")
    log.error("this is error")
    return "logged"


def publish_it(request, _):
    publish()
    return f"published {request.text()}"


def sibling(request, what):
    match what:
        case "invoke":
            sent = {"content-type": "text/x-sibling"}
            reply = call("sibling", "/echo", method="POST", headers=sent, body=request.body)
            return f"{reply.status} {reply.headers['content-type']} {reply.text()}"
        case "both":
            started = [start("sibling", "/echo", method="POST", body=body) for body in ("one", "two")]
            return " ".join(pending.wait().text() for pending in started)
        case "spawn":
            if not spawn("sibling", "/kv/spawned", method="PUT", body=request.body):
                raise RuntimeError("the spawned call has no id")
            return "spawned"
        case "status":
            return str(call("sibling", "/error").status)
        case "nobody":
            try:
                call("nobody")
            except CallError as error:
                return error.kind
            raise RuntimeError("nobody answered")
    return no_such("path")


def key_value(request, key):
    if not key:
        return "".join(f"{key}\n" for key in kv.keys())
    match request.method:
        case "PUT":
            kv.set(key, request.body)
            return "set"
        case "DELETE":
            kv.delete(key)
            return "deleted"
        case "POST":
            return str(kv.increment(key, int(request.query["by"])))
    value = kv.get(key)
    return no_such("key") if value is None else value


def setting(_, key):
    value = config.get(unquote(key))
    return no_such("key") if value is None else value


PATHS = {
    "echo": echo,
    "json": json_sum,
    "error": fail,
    "status": status,
    "headers": headers,
    "where": where,
    "log": log_lines,
    "publish": publish_it,
    "sibling": sibling,
    "kv": key_value,
    "config": setting,
}
