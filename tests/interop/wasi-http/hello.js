// A component that knows nothing of Mote: a fetch handler as for any wasi:http host.
//
// A GET is greeted, with the headers that its query names; a POST gets its body back.
addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  if (request.method === "POST") {
    return new Response(await request.text(), { headers: { "content-type": "text/plain" } });
  }
  const { pathname, searchParams } = new URL(request.url);
  const headers = { "content-type": "text/plain", ...Object.fromEntries(searchParams) };
  return new Response(`hello from ${pathname}\n`, { headers });
}
