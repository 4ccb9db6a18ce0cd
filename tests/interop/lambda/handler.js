// A handler as AWS Lambda runs it; it knows nothing of the node that runs it.
'use strict';

const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');

let calls = 0;

exports.handler = async (event, context) => {
  calls += 1;
  if (event.requestContext) return url(event);
  if (event.fail) throw new LookupError('no such room');
  if (event.hang) await sleep(600_000);
  console.log('served', context.awsRequestId);
  return {
    hello: event.name,
    calls,
    id: context.awsRequestId,
    left: context.getRemainingTimeInMillis(),
  };
};

// Its answer comes in two pieces, the second when a file is there.
exports.stream = awslambda.streamifyResponse(async (event, out) => {
  out = awslambda.HttpResponseStream.from(out, { statusCode: 203, headers: { 'content-type': 'text/plain' } });
  out.write('first ');
  while (!fs.existsSync(event.gate)) await sleep(5);
  out.write('second');
  out.end();
});

class LookupError extends Error {
  name = 'LookupError';
}

function url(event) {
  const { method } = event.requestContext.http;
  const floor = event.queryStringParameters?.floor ?? '';
  const sent = event.headers['x-sent'] ?? '';
  return {
    statusCode: 201,
    headers: { 'x-made': `${method} ${event.rawPath}`, 'content-type': 'text/plain' },
    body: `${floor} ${sent} ${event.body ?? ''}`,
  };
}

if (process.env._HANDLER === 'broken') throw new Error('no configuration');
