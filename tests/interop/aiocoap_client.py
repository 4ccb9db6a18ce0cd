"""Calls a node with aiocoap, as a program that uses that library would.

    aiocoap_client.py METHOD URI [FILE]   sends the file's bytes and writes the body of the reply
    aiocoap_client.py observe URI         writes every value on a line of its own, until stopped

A reply that is no success ends it with exit code 1 and the response code on standard error.
"""

import asyncio
import pathlib
import sys

import aiocoap

# Longer than any reply that a test waits for.
TIMEOUT_SECONDS = 60


async def request(context, method, uri, file):
    payload = pathlib.Path(file).read_bytes() if file else b""
    message = aiocoap.Message(code=aiocoap.Code[method.upper()], uri=uri, payload=payload)
    response = await asyncio.wait_for(context.request(message).response, TIMEOUT_SECONDS)
    if not response.code.is_successful():
        sys.exit(f"{response.code}: {response.payload.decode(errors='replace')}")
    sys.stdout.buffer.write(response.payload)


async def observe(context, uri):
    pending = context.request(aiocoap.Message(code=aiocoap.GET, uri=uri, observe=0))
    show(await pending.response)
    async for notification in pending.observation:
        show(notification)


def show(response):
    if not response.code.is_successful():
        sys.exit(str(response.code))
    print(response.payload.decode(), flush=True)


async def main():
    method, uri, *file = sys.argv[1:]
    context = await aiocoap.Context.create_client_context()
    try:
        if method == "observe":
            await observe(context, uri)
        else:
            await request(context, method, uri, file[0] if file else None)
    finally:
        await context.shutdown()


asyncio.run(main())
