import time


def handle(request):
    if request.path == "/slow":
        time.sleep(600)
    return "quick"
