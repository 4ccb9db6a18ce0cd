"""Trains the classifier, writes its weights into both functions, and a request with its reply.

    python3 -m venv target/tools/train && target/tools/train/bin/pip install numpy==2.4.6
    target/tools/train/bin/python experiments/classifier/train.py

Everything comes from the seeds below. The sums of floating-point numbers depend on the machine, so another one
gets weights that are a little different and about as good; the ones that are committed are those that count.
"""

import base64
import pathlib
import struct
import sys
import time

import numpy

HERE = pathlib.Path(__file__).resolve().parent
FUNCTIONS = HERE.parent / "functions"
sys.path.insert(0, str(FUNCTIONS / "classify-python"))

import handler  # noqa: E402, the function's own code is what judges the weights
import shapes  # noqa: E402

TRAIN, TRAIN_SEED = 16_000, 1
TEST, TEST_SEED = 2_000, 2
SAMPLE_SIDE, SAMPLE_SEED, SAMPLE_LABEL = 256, 3, "star"
EPOCHS, BATCH, RATE, WEIGHTS_SEED = 4, 40, 1.5e-3, 4
# Whatever part of the values lies above the largest one that is kept, is cut off.
CUT = 0.0005
# Whole numbers up to here are exact in 32-bit floating point.
EXACT = 1 << 24


def main():
    if handler.LABELS != tuple(shapes.LABELS):
        raise SystemExit("the function and the data set have other labels")
    started = time.monotonic()
    pictures, labels = shapes.pictures(TRAIN, TRAIN_SEED)
    tests, test_labels = shapes.pictures(TEST, TEST_SEED)
    network = Network()
    random = numpy.random.default_rng(WEIGHTS_SEED)
    steps = EPOCHS * (TRAIN // BATCH)
    for step in range(steps):
        if step % (TRAIN // BATCH) == 0:
            order = random.permutation(TRAIN)
        batch = order[step * BATCH % TRAIN :][:BATCH]
        # Up slowly, and down to nothing.
        rate = RATE * min(1, (step + 1) / 100) * (1 + numpy.cos(numpy.pi * step / steps)) / 2
        loss = network.learn(inputs(pictures[batch]), labels[batch], rate, step + 1)
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    accuracy("training, floating point", network.predict(pictures), labels)
    accuracy("held out, floating point", network.predict(tests), test_labels)

    weights = quantize(network, inputs(pictures[:400]))
    for path in (FUNCTIONS / "classify/src/weights.bin", FUNCTIONS / "classify-python/weights.bin"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(weights)
    handler.NETWORK = handler.Network(handler.WEIGHTS)
    accuracy("training, integers", numpy.array([handler.classify(one)[0] for one in pictures[:TEST]]), labels[:TEST])
    accuracy("held out, integers", numpy.array([handler.classify(one)[0] for one in tests]), test_labels)

    random = numpy.random.default_rng(SAMPLE_SEED)
    sample = shapes.pgm(shapes.render(shapes.LABELS.index(SAMPLE_LABEL), random, SAMPLE_SIDE))
    (HERE / "sample.txt").write_bytes(base64.b64encode(sample))
    print(f"{len(weights)} bytes of weights, {time.monotonic() - started:.0f} s; the sample's reply:")
    print(handler.handle(type("Request", (), {"body": base64.b64encode(sample)}))[2], end="")


def inputs(pictures):
    return (pictures.astype(numpy.float32) / 255)[..., None]


def accuracy(what, found, labels):
    print(f"{what}: {100 * numpy.mean(found == labels):.2f} % of {len(labels)}", flush=True)


# --- the network in floating point, and how it learns -------------------------------------------------------


class Network:
    """Convolutions of three by three, each cut off at zero; the mean over the picture; one full layer."""

    def __init__(self):
        random = numpy.random.default_rng(WEIGHTS_SEED)
        self.values = []
        for ins, outs, _ in handler.LAYERS:
            # He's initialisation, for layers that are cut off at zero.
            self.values.append(random.normal(0, (2 / (9 * ins)) ** 0.5, (9 * ins, outs)).astype(numpy.float32))
            self.values.append(numpy.zeros(outs, numpy.float32))
        last = handler.LAYERS[-1][1]
        self.values.append(random.normal(0, last**-0.5, (last, len(handler.LABELS))).astype(numpy.float32))
        self.values.append(numpy.zeros(len(handler.LABELS), numpy.float32))
        self.means = [numpy.zeros_like(value) for value in self.values]
        self.squares = [numpy.zeros_like(value) for value in self.values]

    def forward(self, values, keep=None):
        """The logits. `keep` is told what each layer got and gave."""
        for index, (_, _, halves) in enumerate(handler.LAYERS):
            columns = patches(values)
            count, side = values.shape[:2]
            given = columns @ self.values[2 * index] + self.values[2 * index + 1]
            given = numpy.maximum(given, 0).reshape(count, side, side, -1)
            values = halve(given) if halves else given
            if keep is not None:
                keep.append((columns, given, values))
        return values.mean(axis=(1, 2)) @ self.values[-2] + self.values[-1]

    def predict(self, pictures):
        pieces = numpy.array_split(pictures, len(pictures) // 100)
        return numpy.concatenate([self.forward(inputs(piece)).argmax(axis=1) for piece in pieces])

    def learn(self, values, labels, rate, step):
        """One step of Adam. Returns the loss."""
        kept = []
        logits = self.forward(values, kept)
        logits -= logits.max(axis=1, keepdims=True)
        chances = numpy.exp(logits)
        chances /= chances.sum(axis=1, keepdims=True)
        rows = numpy.arange(len(labels))
        loss = -numpy.log(chances[rows, labels] + 1e-9).mean()
        chances[rows, labels] -= 1
        self.adam(self.gradients(chances / len(labels), kept), rate, step)
        return loss

    def gradients(self, slope, kept):
        gradients = [None] * len(self.values)
        last = kept[-1][2]
        area = last.shape[1] * last.shape[2]
        gradients[-2], gradients[-1] = last.mean(axis=(1, 2)).T @ slope, slope.sum(axis=0)
        slope = numpy.broadcast_to((slope @ self.values[-2].T)[:, None, None] / area, last.shape)
        for index in reversed(range(len(handler.LAYERS))):
            columns, given, halved = kept[index]
            if handler.LAYERS[index][2]:
                slope = double(slope, given, halved)
            slope = (slope * (given > 0)).reshape(-1, given.shape[-1])
            gradients[2 * index], gradients[2 * index + 1] = columns.T @ slope, slope.sum(axis=0)
            if index > 0:
                slope = gather(slope @ self.values[2 * index].T, given.shape)
        return gradients

    def adam(self, gradients, rate, step):
        for value, gradient, mean, square in zip(self.values, gradients, self.means, self.squares):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            value -= rate * (mean / (1 - 0.9**step)) / (numpy.sqrt(square / (1 - 0.999**step)) + 1e-8)


def patches(values):
    """The nine values around each pixel, in one row for each."""
    count, side, _, channels = values.shape
    padded = numpy.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = numpy.empty((count, side, side, 9, channels), numpy.float32)
    for place in range(9):
        row, column = divmod(place, 3)
        columns[:, :, :, place] = padded[:, row : row + side, column : column + side]
    return columns.reshape(count * side * side, 9 * channels)


def gather(columns, shape):
    """The other way: what the patches say of each pixel, added up."""
    count, side = shape[:2]
    columns = columns.reshape(count, side, side, 9, -1)
    padded = numpy.zeros((count, side + 2, side + 2, columns.shape[-1]), numpy.float32)
    for place in range(9):
        row, column = divmod(place, 3)
        padded[:, row : row + side, column : column + side] += columns[:, :, :, place]
    return padded[:, 1:-1, 1:-1]


def halve(values):
    count, side, _, channels = values.shape
    return values.reshape(count, side // 2, 2, side // 2, 2, channels).max(axis=(2, 4))


def double(slope, given, halved):
    """Back to the pixels that were the largest of their four."""
    slope, halved = (each.repeat(2, axis=1).repeat(2, axis=2) for each in (slope, halved))
    return slope * (given == halved)


# --- the network in integers --------------------------------------------------------------------------------


def quantize(network, values):
    """The weights as the functions read them: bytes for each output of a layer, scaled by its largest."""
    kept = []
    network.forward(values, kept)
    data = b""
    scale_in = 1 / 255
    for index, (_, given, _) in enumerate(kept):
        weights, bias = network.values[2 * index], network.values[2 * index + 1]
        scales = numpy.abs(weights).max(axis=0) / 127
        scale_out = numpy.quantile(given, 1 - CUT) / 255
        whole = numpy.rint(weights / scales).astype(numpy.int64)
        biases = numpy.rint(bias / (scale_in * scales)).astype(numpy.int64)
        multipliers = numpy.rint(scale_in * scales / scale_out * (1 << handler.SCALE_BITS)).astype(numpy.int64)
        largest = 255 * numpy.abs(whole).sum(axis=0)
        if (largest >= EXACT).any() or (largest + numpy.abs(biases) >= 1 << 31).any():
            raise SystemExit(f"layer {index}: its sums do not fit")
        data += biases.astype("<i4").tobytes() + multipliers.astype("<i4").tobytes()
        data += whole.T.astype("i1").tobytes()
        scale_in = scale_out
    weights, bias = network.values[-2], network.values[-1]
    scale = numpy.abs(weights).max() / 127
    area = given.shape[1] * given.shape[2]
    logit_scale = float(scale * scale_in / area)
    data += numpy.rint(bias / logit_scale).astype("<i4").tobytes() + struct.pack("<d", logit_scale)
    return data + numpy.rint(weights / scale).astype("i1").T.tobytes()


if __name__ == "__main__":
    main()
