// A component that knows nothing of Mote: a fetch handler as for any wasi:http host.
//
// It greets, and says back the body of a POST.
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  if (request.method === "POST") {
    const body = await request.text();
    return new Response(body, { headers: { "content-type": "text/plain" } });
  }
  return new Response("hello from JavaScript\n", {
    headers: { "content-type": "text/plain", "x-path": new URL(request.url).pathname },
  });
}
