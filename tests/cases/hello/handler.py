def handle(request):
    return "hello, world\n"
