"""Sends held-out pictures to functions on a node, and compares what they say with each other and with the truth.

    mote deploy experiments/functions/classify
    mote deploy experiments/functions/classify-python
    target/tools/train/bin/python experiments/classifier/check.py \
        http://localhost:8000/classify http://localhost:8000/classify-python

Ends with 1 when two replies differ, or when fewer than 95 % of the labels are right.
"""

import base64
import json
import sys
import time
import urllib.request

import shapes

COUNT, SEED = 300, 5
RIGHT_MIN = 0.95


def main(urls):
    pictures, labels = shapes.pictures(COUNT, SEED)
    bodies = [base64.b64encode(shapes.pgm(picture)) for picture in pictures]
    replies = [ask(url, bodies) for url in urls]
    differing = sum(len(set(each)) > 1 for each in zip(*replies))
    right = sum(json.loads(reply)["label"] == shapes.LABELS[label] for reply, label in zip(replies[0], labels))
    print(f"{COUNT} pictures: {100 * right / COUNT:.1f} % right, {differing} replies differ between the functions")
    return differing == 0 and right >= RIGHT_MIN * COUNT


def ask(url, bodies):
    """The replies, one after the other."""
    replies, times = [], []
    for body in bodies:
        started = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(url, data=body)) as reply:
            replies.append(reply.read())
        times.append(time.perf_counter() - started)
    times.sort()
    print(f"{url}: median {1000 * times[len(times) // 2]:.1f} ms, slowest {1000 * times[-1]:.1f} ms")
    return replies


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
