// Says hello to whoever is named in the query. There is no SDK: the few functions of the world that are used here are
// called as they are (see sdk/wit/function.wit and the canonical ABI of the component model).

// @ts-ignore: decorator
@external("mote:function/request@0.1.1", "query")
declare function request_query(result: usize): void;

// @ts-ignore: decorator
@external("mote:function/log@0.1.1", "log")
declare function log_log(level: i32, message: usize, length: i32): void;

const INFO = 2;

// An option<string>, and a result<list<u8>, string>: which case it is, then address and length.
const RESULT = memory.data(12, 4);

// The host asks for memory here to write strings and lists into.
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  return old == 0 ? heap.alloc(size) : heap.realloc(old, size);
}

export function handle(body: usize, length: i32): usize {
  const named = parameter("name");
  const name = named.length > 0 ? named : "world";
  const message = String.UTF8.encode(`hello to ${name}`);
  log_log(INFO, changetype<usize>(message), message.byteLength);
  return ok(String.UTF8.encode(`hello, ${name}\n`));
}

// Every call has a fresh memory, so the answer may stay where it is.
function ok(answer: ArrayBuffer): usize {
  store<u32>(RESULT, 0);
  store<usize>(RESULT + 4, changetype<usize>(answer));
  store<u32>(RESULT + 8, answer.byteLength);
  return RESULT;
}

// A parameter of the query, without its percent encoding, or "".
function parameter(name: string): string {
  request_query(RESULT);
  if (load<u8>(RESULT) == 0) {
    return "";
  }
  const query = String.UTF8.decodeUnsafe(load<usize>(RESULT + 4), load<u32>(RESULT + 8));
  const pairs = query.split("&");
  for (let i = 0; i < pairs.length; i++) {
    if (pairs[i].startsWith(name + "=")) {
      return decodeURIComponent(pairs[i].substring(name.length + 1).replaceAll("+", " "));
    }
  }
  return "";
}
