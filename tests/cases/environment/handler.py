import os


def handle(request):
    return "".join(f"{name}={value}\n" for name, value in os.environ.items())
