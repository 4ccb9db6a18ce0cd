// Answers the mean of the numbers that are sent, a line for each, such as readings of a sensor.
//
// There is no SDK: the world of a function is one export, and memory for what the host hands over
// (see sdk/wit/function.wit and the canonical ABI of the component model).

// A result<list<u8>, string>: which case it is, then address and length.
const RESULT = memory.data(12, 4);
const OK: u32 = 0;
const ERR: u32 = 1;

// The host asks for memory here to write the body into. Every call has a fresh one, so nothing is ever given back.
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  return old == 0 ? heap.alloc(size) : heap.realloc(old, size);
}

export function handle(body: usize, length: i32): usize {
  const lines = String.UTF8.decodeUnsafe(body, length).split("\n");
  let sum: f64 = 0;
  let count = 0;
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i].trim();
    if (line.length == 0) continue;
    const number = parseFloat(line);
    if (isNaN(number)) return result(ERR, `\`${line}\` is not a number`);
    sum += number;
    count += 1;
  }
  return count == 0 ? result(ERR, "there are no numbers") : result(OK, `${sum / count}\n`);
}

function result(which: u32, text: string): usize {
  const bytes = String.UTF8.encode(text);
  store<u32>(RESULT, which);
  store<usize>(RESULT + 4, changetype<usize>(bytes));
  store<u32>(RESULT + 8, bytes.byteLength);
  return RESULT;
}
