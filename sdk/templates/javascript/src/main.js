export default {
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    return new Response(`hello, ${searchParams.get("name") ?? "world"}\n`);
  },
};
