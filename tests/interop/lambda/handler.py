"""A handler as AWS Lambda runs it; it knows nothing of the node that runs it."""

import os
import time

calls = 0


def handler(event, context):
    global calls
    calls += 1
    if "requestContext" in event:
        return url(event)
    if event.get("fail"):
        raise LookupError("no such room")
    if event.get("hang"):
        time.sleep(600)
    print("served", context.aws_request_id)
    return {
        "hello": event["name"],
        "calls": calls,
        "id": context.aws_request_id,
        "left": context.get_remaining_time_in_millis(),
    }


def url(event):
    method = event["requestContext"]["http"]["method"]
    floor = event.get("queryStringParameters", {}).get("floor", "")
    sent = event["headers"].get("x-sent", "")
    return {
        "statusCode": 201,
        "headers": {"x-made": f"{method} {event['rawPath']}", "content-type": "text/plain"},
        "body": f"{floor} {sent} {event.get('body', '')}",
    }


if os.environ["_HANDLER"] == "broken":
    raise RuntimeError("no configuration")
