"""Whether a reading is worth a visit: a logistic model of three parameters, in plain Python."""

import math

# Fitted elsewhere; a model is a handful of numbers, and the code that applies it is this short.
WEIGHTS = {"temperature": 0.08, "humidity": -0.03, "vibration": 1.9}
BIAS = -2.4


def handle(request):
    try:
        reading = request.json()
        score = BIAS + sum(weight * float(reading[name]) for name, weight in WEIGHTS.items())
        probability = 1 / (1 + math.exp(-score))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return 400, {"error": f"a reading has the numbers {', '.join(WEIGHTS)}: {error!r}"}
    return {"probability": round(probability, 4)}
