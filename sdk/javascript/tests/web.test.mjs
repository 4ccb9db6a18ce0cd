// The names of the web mean here what they mean in Node.js.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Headers } from "../lib/headers.js";
import { settle } from "../lib/promise.js";
import { Request } from "../lib/request.js";
import { Response } from "../lib/response.js";
import { TextDecoder, TextEncoder } from "../lib/text.js";
import { URL, URLSearchParams } from "../lib/url.js";

const node = globalThis;

test("texts become bytes and bytes become texts", () => {
  for (const text of ["", "plain", "grüße", "日本 👋", "half \ud83d a pair", "\udc00", "\0\x7f\x80\xff"]) {
    const bytes = new TextEncoder().encode(text);
    assert.deepEqual([...bytes], [...new node.TextEncoder().encode(text)], JSON.stringify(text));
    assert.equal(new TextDecoder().decode(bytes), new node.TextDecoder().decode(bytes), JSON.stringify(text));
  }
  assert.deepEqual(new TextEncoder().encodeInto("aü日", new Uint8Array(4)), { read: 2, written: 3 });
});

test("bytes that are no text are mended as everywhere", () => {
  let seed = 7;
  const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  const likely = [0x41, 0x7f, 0x80, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff];
  for (let round = 0; round < 3000; round += 1) {
    const bytes = Uint8Array.from({ length: 1 + random() * 8 }, () => likely[Math.floor(random() * likely.length)]);
    const want = new node.TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    assert.equal(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes), want, bytes.join());
  }
  assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff])), TypeError);
  assert.throws(() => new TextDecoder("latin1"), RangeError);
  assert.equal(new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61])), "a");
});

test("URLs are read as everywhere", () => {
  const parts = ["href", "protocol", "username", "password", "host", "port", "pathname", "search", "hash", "origin"];
  for (const address of [
    "http://example.org",
    "HTTPS://User:pa%20ss@EXAMPLE.org:443/a/b?x=1&y=ä#frag ment",
    "http://example.org:8080/a/./b/../c/?q#h",
    "http://example.org/%2e%2E/x",
    "http://example.org/a b\"<>`{}|/ü?a b\"<>'`#\"<>`",
    "http://[::1]:9000/",
    "http://example.org/..",
    "http://example.org:80/a;b=c,d@e:f/$&+!(x)*~_-.y?a=b;c/d?e@f:{|}~[]`^\\",
    "http://example.org/a/.hidden/x..y",
    "http://example.org:8080/a%20b?c%20d=%C3%BC+e'f",
    "http://localhost/",
    "http://a_b/",
    "http://example.org?",
    "http://example.org/a\\b",
    "mailto:a@example.org",
    "data:text/plain,hi there",
    " http://example.org/ ",
  ]) {
    const [ours, theirs] = [new URL(address), new node.URL(address)];
    for (const part of parts) {
      assert.equal(ours[part], theirs[part], `${part} of ${address}`);
    }
  }
  for (const [address, base] of [
    ["x", "http://example.org/a/b"],
    ["/x/../y", "http://example.org/a/b"],
    ["../x?q", "http://example.org/a/b/c"],
    ["?q", "http://example.org/a/b?old#h"],
    ["#h", "http://example.org/a/b?old"],
    ["", "http://example.org/a/b?old#h"],
    ["//other.org:80/x", "http://user@example.org/a"],
    ["https://other.org", "http://example.org"],
  ]) {
    assert.equal(new URL(address, base).href, new node.URL(address, base).href, `${address} on ${base}`);
  }
  for (const bad of ["", "x", "/x", "http://", "http:///", "http://a b/", "http://example.org:99999/", "http:x"]) {
    assert.throws(() => new URL(bad), TypeError, bad);
    assert.equal(URL.canParse(bad), false);
    assert.equal(URL.parse(bad), null);
  }
});

test("parts of a URL can be changed", () => {
  const change = (URL) => {
    const url = new URL("http://example.org/a?x=1");
    url.searchParams.append("y", "a b");
    url.pathname = "b/../c d";
    url.hash = "h";
    url.port = "8080";
    const with_ = url.href;
    url.search = "?z=2";
    url.protocol = "https";
    url.port = "443";
    url.host = "other.org:99";
    return [with_, url.href, url.searchParams.get("z"), JSON.stringify({ url })];
  };
  assert.deepEqual(change(URL), change(node.URL));
});

test("queries are read and written as everywhere", () => {
  for (const query of ["", "?a=1&b=2", "a=1&a=2&b", "a=%20+%2B&ü=%C3%BC", "=x&&y==z", "a=%zz%20%ff"]) {
    const [ours, theirs] = [new URLSearchParams(query), new node.URLSearchParams(query)];
    assert.deepEqual([...ours], [...theirs], query);
    assert.equal(String(ours), String(theirs), query);
  }
  const edit = (P) => {
    const params = new P([["b", 1], ["a", "x"], ["b", 2]]);
    const before = [params.get("b"), params.getAll("b"), params.get("c"), params.has("a"), params.has("a", "y"), params.size];
    params.set("b", "3");
    params.append("c", "!'()~*");
    params.sort();
    params.delete("a");
    params.set("new", "n");
    return [before, String(params), [...params.keys()], [...params.values()], String(new P({ k: "v" }))];
  };
  assert.deepEqual(edit(URLSearchParams), edit(node.URLSearchParams));
});

test("headers are kept as everywhere", () => {
  const edit = (H) => {
    const headers = new H([["X-B", " one "], ["x-a", "1"], ["x-b", "two"]]);
    headers.append("Set-Cookie", "a=1");
    headers.append("set-cookie", "b=2");
    headers.set("x-a", "2");
    headers.delete("nothing");
    const seen = [];
    headers.forEach((value, name) => seen.push(`${name}=${value}`));
    return [
      [...headers], [...headers.keys()], [...headers.values()], seen, headers.get("X-b"), headers.get("none"),
      headers.has("X-A"), headers.getSetCookie(), [...new H({ k: "v" })], [...new H(new H({ k: "v" }))],
    ];
  };
  assert.deepEqual(edit(Headers), edit(node.Headers));
  for (const [name, value] of [["bad name", "x"], ["", "x"], ["x", "a\nb"], ["x", "a\0b"]]) {
    assert.throws(() => new Headers([[name, value]]), TypeError, JSON.stringify([name, value]));
  }
  const several = new Headers({ a: "1" });
  several.append("b", "2");
  several.append("a", "3");
  several.set("a", "4");
  assert.deepEqual(several.raw(), [["a", "4"], ["b", "2"]]);
});

test("a request is what was asked", () => {
  const request = new Request("http://example.org/a b", { method: "post", headers: { "X-T": "1" }, body: "{\"a\":1}" });
  assert.equal(request.method, "POST");
  assert.equal(request.url, "http://example.org/a%20b");
  assert.equal(request.headers.get("content-type"), "text/plain;charset=UTF-8");
  const copy = request.clone();
  assert.deepEqual(settle(request.json()), { a: 1 });
  assert.equal(request.bodyUsed, true);
  assert.throws(() => settle(request.text()), /read already/);
  assert.equal(settle(copy.text()), "{\"a\":1}");
  assert.equal(new Request("http://x/", { method: "FETCH" }).method, "FETCH");
  assert.equal(settle(new Request("http://x/").text()), "");
  const form = new Request("http://x/", { method: "PUT", body: new URLSearchParams({ a: "b c" }) });
  assert.equal(form.headers.get("content-type"), "application/x-www-form-urlencoded;charset=UTF-8");
  assert.equal(settle(form.text()), "a=b+c");
});

test("a response says what it is", () => {
  const plain = new Response("hi", { status: 201, headers: { "content-type": "text/x" } });
  assert.deepEqual([plain.status, plain.ok, plain.headers.get("content-type")], [201, true, "text/x"]);
  const json = Response.json({ a: 1 }, { status: 400 });
  assert.deepEqual([json.status, json.ok, json.headers.get("content-type")], [400, false, "application/json"]);
  assert.deepEqual(settle(json.clone().json()), { a: 1 });
  const bytes = new Response(new Uint16Array([1, 2]));
  assert.equal(bytes.headers.get("content-type"), null);
  assert.deepEqual([...settle(bytes.bytes())], [1, 0, 2, 0]);
  assert.deepEqual(new Uint8Array(settle(new Response("a").arrayBuffer())), new Uint8Array([97]));
  assert.equal(Response.redirect("http://example.org/x", 303).headers.get("location"), "http://example.org/x");
  assert.throws(() => new Response("", { status: 99 }), RangeError);
  assert.throws(() => new Response("x", { status: 204 }), TypeError);
  assert.throws(() => Response.json(undefined), TypeError);
  assert.throws(() => Response.redirect("http://x/", 200), RangeError);
  assert.throws(() => settle(new Response("{").json()), SyntaxError);
});
