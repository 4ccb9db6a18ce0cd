import sys


def handle(request):
    print("the kettle boils", file=sys.stderr, flush=True)
    return "logged"
