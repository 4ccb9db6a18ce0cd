LIMIT = 1000


def handle(request):
    composite = bytearray(LIMIT + 1)
    primes = []
    for number in range(2, LIMIT + 1):
        if not composite[number]:
            primes.append(number)
            composite[number * number :: number] = bytes([1]) * len(composite[number * number :: number])
    return " ".join(map(str, primes)) + "\n"
