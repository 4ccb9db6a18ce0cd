// Text and bytes.
//
// The engine has no encoder, and a loop over letters takes 100 ns for each. But it has base64 for bytes and for
// strings of bytes, which is 30 times faster than a loop.

const BEYOND_ASCII = /[^\x00-\x7f]/;

/** The UTF-8 of a text. What is no text, half of a surrogate pair, becomes U+FFFD. */
export function encode(text) {
  const bytes = BEYOND_ASCII.test(text) ? unescape(encodeURIComponent(text.toWellFormed())) : text;
  return Uint8Array.fromBase64(btoa(bytes));
}

/** The text of UTF-8. Bytes that are none become U+FFFD, or throw when `fatal`. */
export function decode(bytes, fatal = false) {
  const letters = atob(bytes.toBase64());
  if (!BEYOND_ASCII.test(letters)) {
    return letters;
  }
  try {
    return decodeURIComponent(escape(letters));
  } catch {
    if (fatal) {
      throw new TypeError("the bytes are not UTF-8");
    }
    return mend(bytes);
  }
}

/** Bytes of which some are not UTF-8, one by one (the algorithm of https://encoding.spec.whatwg.org/#utf-8-decoder). */
function mend(bytes) {
  let text = "";
  let point = 0;
  let needed = 0;
  let low = 0x80;
  let high = 0xbf;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (needed === 0) {
      if (byte < 0x80) {
        text += String.fromCharCode(byte);
      } else if (byte >= 0xc2 && byte < 0xe0) {
        needed = 1;
        point = byte & 0x1f;
      } else if (byte >= 0xe0 && byte < 0xf0) {
        low = byte === 0xe0 ? 0xa0 : 0x80;
        high = byte === 0xed ? 0x9f : 0xbf;
        needed = 2;
        point = byte & 0x0f;
      } else if (byte >= 0xf0 && byte < 0xf5) {
        low = byte === 0xf0 ? 0x90 : 0x80;
        high = byte === 0xf4 ? 0x8f : 0xbf;
        needed = 3;
        point = byte & 0x07;
      } else {
        text += "\ufffd";
      }
      continue;
    }
    const fits = byte >= low && byte <= high;
    low = 0x80;
    high = 0xbf;
    if (!fits) {
      text += "\ufffd";
      needed = 0;
      // It may begin something else.
      at -= 1;
      continue;
    }
    point = (point << 6) | (byte & 0x3f);
    needed -= 1;
    if (needed === 0) {
      text += String.fromCodePoint(point);
    }
  }
  return needed === 0 ? text : `${text}\ufffd`;
}

/** Bytes of a buffer or of a view of one. */
export function bytesOf(source) {
  if (source instanceof Uint8Array) {
    return source;
  }
  if (ArrayBuffer.isView(source)) {
    return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  }
  if (source instanceof ArrayBuffer || source instanceof SharedArrayBuffer) {
    return new Uint8Array(source);
  }
  return undefined;
}

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return encode(String(text));
  }

  encodeInto(text, into) {
    let read = 0;
    let written = 0;
    for (const letter of String(text)) {
      const bytes = encode(letter);
      if (written + bytes.length > into.length) {
        break;
      }
      into.set(bytes, written);
      read += letter.length;
      written += bytes.length;
    }
    return { read, written };
  }
}

export class TextDecoder {
  #fatal;
  #ignoreBOM;

  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(label)) {
      throw new RangeError(`the encoding ${label} is not known, only utf-8 is`);
    }
    this.#fatal = fatal;
    this.#ignoreBOM = ignoreBOM;
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#ignoreBOM;
  }

  decode(source = new Uint8Array(), { stream = false } = {}) {
    if (stream) {
      throw new TypeError("a text is decoded whole, not as a stream");
    }
    const bytes = bytesOf(source);
    if (!bytes) {
      throw new TypeError("what is decoded is a buffer or a view of one");
    }
    const text = decode(bytes, this.#fatal);
    return !this.#ignoreBOM && text.startsWith("\ufeff") ? text.slice(1) : text;
  }
}
