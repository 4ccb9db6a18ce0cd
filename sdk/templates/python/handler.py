from mote import Response


def handle(request):
    name = request.query.get("name", "world")
    return Response(f"hello, {name}\n")
