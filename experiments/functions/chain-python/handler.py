"""An echo that calls itself: `?hops=N` says how many more calls follow, each made by the one before.

The same as `chain`, in Python. `urllib` finds the way out of the sandbox in `$HTTP_PROXY`.
"""

import os
import urllib.error
import urllib.request

HOPS_MAX = 20


def handle(request):
    try:
        hops = int(request.query.get("hops", "0"))
    except ValueError:
        hops = -1
    if not 0 <= hops <= HOPS_MAX:
        return 400, f"hops must be an integer from 0 to {HOPS_MAX}\n"
    kind = request.headers.get("content-type", "application/octet-stream")
    if hops == 0:
        return 200, {"content-type": kind}, request.body
    call = urllib.request.Request(
        f"{os.environ['NEXT']}?hops={hops - 1}", data=request.body, headers={"content-type": kind}
    )
    try:
        with urllib.request.urlopen(call) as reply:
            return reply.status, {"content-type": reply.headers["content-type"]}, reply.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
