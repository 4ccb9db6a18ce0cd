"""Says what shape a picture shows: a convolutional network of 31 million multiplications.

The body is a binary PGM in base64, square, with a side of 64 or a multiple of that. The weights are those of
`experiments/classifier/train.py`, as integers, and all of the network is computed in integers: `classify`, the
same in Rust, gives the same reply byte for byte.
"""

import base64
import binascii
import math
import os
import re

import numpy

LABELS = ("disc", "ring", "square", "frame", "triangle", "star", "cross", "arrow", "half", "bars")
SIDE = 64
SIDE_MAX = 1024
# Of each convolution: the channels that come in and go out, and whether it halves the picture.
LAYERS = ((1, 16, True), (16, 32, False), (32, 32, True), (32, 64, False), (64, 64, True), (64, 64, False))
# What a layer's multipliers are scaled by, in bits.
SCALE_BITS = 24


def handle(request):
    try:
        picture = shrink(read_pgm(base64.b64decode(request.body.strip(), validate=True)))
    except (binascii.Error, ValueError) as error:
        return 400, f"the body must be a picture as binary PGM in base64: {error}\n"
    label, score = classify(picture)
    reply = f'{{"label":"{LABELS[label]}","score":{score // 10000}.{score % 10000:04}}}\n'
    return 200, {"content-type": "application/json"}, reply


def read_pgm(data):
    head = re.match(rb"P5\s(\d{1,4})\s(\d{1,4})\s255\s", data)
    if not head:
        raise ValueError("no head of a PGM with 255 shades")
    width, height = int(head[1]), int(head[2])
    if width != height or width % SIDE != 0 or not SIDE <= width <= SIDE_MAX:
        raise ValueError(f"its sides are not the same multiple of {SIDE} up to {SIDE_MAX}")
    pixels = numpy.frombuffer(data, numpy.uint8, offset=head.end())
    if len(pixels) != width * height:
        raise ValueError("it has too few or too many pixels")
    return pixels.reshape(height, width)


def shrink(picture):
    """To the side of the network: each pixel is the mean of a block."""
    block = len(picture) // SIDE
    blocks = picture.reshape(SIDE, block, SIDE, block)
    return blocks.sum(axis=(1, 3), dtype=numpy.int64) // (block * block)


def classify(picture):
    """The number of the label, and how sure that is, in ten-thousandths."""
    values = picture.astype(numpy.float32)[:, :, None]
    for (weights, bias, multiplier), (_, _, halves) in zip(NETWORK.layers, LAYERS):
        values = convolve(values, weights, bias, multiplier)
        if halves:
            side, _, channels = values.shape
            values = values.reshape(side // 2, 2, side // 2, 2, channels).max(axis=(1, 3))
    sums = values.sum(axis=(0, 1)).astype(numpy.int64)
    logits = [int(logit) for logit in NETWORK.dense @ sums + NETWORK.dense_bias]
    best = max(logits)
    total = sum(math.exp((logit - best) * NETWORK.logit_scale) for logit in logits)
    return logits.index(best), int(10000 / total + 0.5)


def convolve(values, weights, bias, multiplier):
    """Three by three, with zeros around the picture, and what is below zero is cut off.

    The multiplications go through floating point, which numpy does many at a time; no sum is large enough to
    be rounded there, which `train.py` checks.
    """
    side, _, channels = values.shape
    padded = numpy.zeros((side + 2, side + 2, channels), numpy.float32)
    padded[1:-1, 1:-1] = values
    patches = numpy.empty((side, side, 9, channels), numpy.float32)
    for place in range(9):
        row, column = divmod(place, 3)
        patches[:, :, place] = padded[row : row + side, column : column + side]
    sums = (patches.reshape(side * side, -1) @ weights).astype(numpy.int64)
    scaled = ((sums + bias) * multiplier + (1 << (SCALE_BITS - 1))) >> SCALE_BITS
    return numpy.clip(scaled, 0, 255).astype(numpy.float32).reshape(side, side, -1)


class Network:
    """The weights, in the order of the file: of each layer biases, multipliers and weights; then the last one."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at = 0
        self.layers = []
        for inputs, outputs, _ in LAYERS:
            bias, multiplier = self.take("<i4", outputs), self.take("<i4", outputs)
            weights = self.take("i1", outputs * 9 * inputs).reshape(outputs, -1)
            self.layers.append((numpy.ascontiguousarray(weights.T, numpy.float32), bias, multiplier))
        self.dense_bias = self.take("<i4", len(LABELS))
        self.logit_scale = float(self.take("<f8", 1)[0])
        self.dense = self.take("i1", len(LABELS) * LAYERS[-1][1]).reshape(len(LABELS), -1).astype(numpy.int64)
        if self.at != len(self.data):
            raise ValueError(f"{path} has {len(self.data)} bytes instead of {self.at}")

    def take(self, kind, count):
        values = numpy.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values if kind != "<i4" else values.astype(numpy.int64)


WEIGHTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights.bin")
# While `train.py` makes the weights, there are none.
NETWORK = Network(WEIGHTS) if os.path.exists(WEIGHTS) else None
