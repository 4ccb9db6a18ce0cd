def handle(request):
    return f"{request.method}\n{request.path}\n{request.query_string}\n"
