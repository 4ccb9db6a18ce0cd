import type { Handler } from "mote";

export default {
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    const name = searchParams.get("name") ?? "world";
    console.log("hello to", name);
    return new Response(`hello, ${name}\n`);
  },
} satisfies Handler;
