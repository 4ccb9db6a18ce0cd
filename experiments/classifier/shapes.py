"""Pictures of ten shapes: the data set of the classifier, which exists only as this code and a seed.

A picture is one shape, turned, scaled, moved and shaded at random on a background with a gradient, under
noise. The same seed gives the same pictures.
"""

import numpy

LABELS = ["disc", "ring", "square", "frame", "triangle", "star", "cross", "arrow", "half", "bars"]


def render(label, random, size):
    """One picture of `size` times `size` bytes."""
    step = 2 / size
    line = (numpy.arange(size) + 0.5) * step - 1
    x, y = numpy.meshgrid(line, line)

    angle = random.uniform(0, 2 * numpy.pi)
    scale = random.uniform(0.35, 0.75)
    shift = random.uniform(-0.22, 0.22, 2)
    x, y = x - shift[0], y - shift[1]
    cos, sin = numpy.cos(angle) / scale, numpy.sin(angle) / scale
    u, v = x * cos + y * sin, y * cos - x * sin

    # The border of a shape is where its distance is 0; one pixel around it is in between.
    inside = numpy.clip(0.5 - DISTANCES[LABELS[label]](u, v) * scale / step, 0, 1)

    back, front = shades(random)
    slope = random.uniform(-30, 30, 2)
    background = back + slope[0] * x + slope[1] * y
    picture = background + (front - back) * inside
    picture += random.normal(0, random.uniform(2, 24), picture.shape)
    return numpy.clip(numpy.rint(picture), 0, 255).astype(numpy.uint8)


def shades(random):
    """Background and shape, far enough apart to be seen."""
    while True:
        back, front = random.uniform(20, 235, 2)
        if abs(back - front) >= 70:
            return back, front


def pictures(count, seed, size=64):
    """`count` pictures with their labels, every label equally often."""
    random = numpy.random.default_rng(seed)
    labels = numpy.arange(count) % len(LABELS)
    return numpy.stack([render(label, random, size) for label in labels]), labels


def pgm(picture):
    """The picture as a file: binary PGM, with 255 for white."""
    height, width = picture.shape
    return b"P5\n%d %d\n255\n" % (width, height) + picture.tobytes()


# --- the shapes: how far a point is outside of one that fills about the unit circle -----------------------


def box(u, v, width, height):
    return numpy.maximum(abs(u) - width, abs(v) - height)


def polygon(u, v, corners):
    """Of a convex polygon: the largest distance to the lines through its sides."""
    sides = zip(corners, corners[1:] + corners[:1])
    distance = -numpy.inf
    for (ax, ay), (bx, by) in sides:
        length = numpy.hypot(bx - ax, by - ay)
        distance = numpy.maximum(distance, ((u - ax) * (by - ay) - (v - ay) * (bx - ax)) / length)
    return distance


def corners(count):
    angles = [2 * numpy.pi * index / count for index in range(count)]
    return [(numpy.cos(angle), numpy.sin(angle)) for angle in angles]


def star(u, v):
    """Two triangles on each other."""
    return numpy.minimum(polygon(u, v, corners(3)), polygon(-u, v, [(x, y) for x, y in corners(3)]))


def arrow(u, v):
    head = polygon(u, v, [(1.0, 0.0), (0.1, 0.8), (0.1, -0.8)])
    return numpy.minimum(head, box(u + 0.45, v, 0.55, 0.25))


DISTANCES = {
    "disc": lambda u, v: numpy.hypot(u, v) - 0.85,
    "ring": lambda u, v: abs(numpy.hypot(u, v) - 0.72) - 0.2,
    "square": lambda u, v: box(u, v, 0.72, 0.72),
    "frame": lambda u, v: numpy.maximum(box(u, v, 0.8, 0.8), -box(u, v, 0.45, 0.45)),
    "triangle": lambda u, v: polygon(u, v, corners(3)),
    "star": star,
    "cross": lambda u, v: numpy.minimum(box(u, v, 0.95, 0.28), box(u, v, 0.28, 0.95)),
    "arrow": arrow,
    "half": lambda u, v: numpy.maximum(numpy.hypot(u, v) - 0.95, -v),
    "bars": lambda u, v: numpy.minimum(box(u, v - 0.5, 0.9, 0.22), box(u, v + 0.5, 0.9, 0.22)),
}
