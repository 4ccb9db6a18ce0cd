import sys


def handle(request):
    if request.path == "/fail":
        print("asked to fail", file=sys.stderr, flush=True)
        raise ValueError("no such luck")
    return "well"
