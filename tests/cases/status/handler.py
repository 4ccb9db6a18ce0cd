def handle(request):
    return int(request.path[1:]), {}, request.path
