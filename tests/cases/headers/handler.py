def handle(request):
    told = (request.headers.get(name, "-") for name in ("x-test", "content-type"))
    headers = {"x-reply": "yes", "content-type": "application/json"}
    return 200, headers, "".join(f"{value}\n" for value in told)
