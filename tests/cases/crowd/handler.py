def handle(request):
    return request.body
