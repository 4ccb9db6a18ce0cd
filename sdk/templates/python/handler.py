from mote import Response, log


def handle(request):
    name = request.query.get("name", "world")
    log.info(f"hello to {name}")
    return Response(f"hello, {name}\n")
