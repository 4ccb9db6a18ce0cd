"""A smaller picture: halves a binary PPM (P6) as often as it takes to fit into 64 x 64, and answers a PNG."""

import struct
import zlib

SIDE_MAX = 64
PIXELS_MAX = 1 << 22


def handle(request):
    try:
        width, height, pixels = read(request.body)
    except ValueError as error:
        return 400, {"error": f"not a picture: {error}"}
    step = 1
    while max(width, height) // step > SIDE_MAX:
        step *= 2
    rows = []
    for y in range(0, height - step + 1, step):
        line = pixels[y * width * 3:(y + 1) * width * 3]
        rows.append(b"\0" + b"".join(line[x * 3:x * 3 + 3] for x in range(0, width - step + 1, step)))
    return 200, {"content-type": "image/png"}, png(len(rows[0]) // 3, rows)


def read(body):
    fields = body.split(None, 4)
    if len(fields) < 4 or fields[0] != b"P6":
        raise ValueError("a binary PPM begins with P6, width, height and 255")
    width, height, depth = (int(field) for field in fields[1:4])
    length = width * height * 3
    if depth != 255 or not 0 < width * height <= PIXELS_MAX or len(body) <= length:
        raise ValueError(f"{width} x {height} pixels of depth {depth} in {len(body)} bytes")
    return width, height, body[-length:]


def png(width, rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
