def handle(request):
    # It remembers nothing: a GET gets this only before anything was published.
    if request.method == "GET":
        return 200, {"content-type": "application/json"}, '{"light":"unknown"}'
    headers = {"content-type": "application/json", "mote-publish": "true"}
    return 200, headers, '{"light":"%s"}' % request.text()
