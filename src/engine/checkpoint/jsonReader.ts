import { maxJsonDepth } from "./limits";
import { quote } from "./quote";

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** Longer keys are names of tensors, of which each is another. */
const longestKeyWord = 12;
/** File names of shards. */
const longestValueWord = 64;

/**
 * Reads JSON from untrusted bytes token by token, so that a caller takes only what its file format allows and stops at
 * the first surprise. `JSON.parse` would build the whole value first: a header of 100 MB of brackets takes gigabytes,
 * and it hides duplicate keys. `fail` gets what is wrong and where, and throws.
 */
export class JsonReader {
  private position = 0;
  private readonly bytes: Buffer;
  private readonly words: string[] = [];

  constructor(
    bytes: Uint8Array,
    private readonly fail: (problem: string) => never,
  ) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) this.position = 3;
  }

  /** Calls `onKey` for every key of the object that starts here; it must read the key's value. */
  readObject(onKey: (key: string) => void): void {
    this.expect(0x7b);
    if (this.peek() === 0x7d) {
      this.position++;
      return;
    }
    for (;;) {
      const key = this.readString(longestKeyWord);
      this.expect(0x3a);
      onKey(key);
      if (this.peek() !== 0x2c) break;
      this.position++;
    }
    this.expect(0x7d);
  }

  /** Calls `onItem` for every item of the array that starts here; it must read the item. */
  readArray(onItem: () => void): void {
    this.expect(0x5b);
    if (this.peek() === 0x5d) {
      this.position++;
      return;
    }
    for (;;) {
      onItem();
      if (this.peek() !== 0x2c) break;
      this.position++;
    }
    this.expect(0x5d);
  }

  /** @param longestWord strings up to this many bytes are expected to come again, and are made once */
  readString(longestWord = longestValueWord): string {
    this.expect(0x22);
    const { bytes } = this;
    const start = this.position;
    let plain = true;
    for (let i = start; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (isOrdinary[byte] === 1) continue;
      if (byte === 0x22) {
        this.position = i + 1;
        return plain ? this.plainText(start, i, longestWord) : this.unescape(start, i);
      }
      if (byte < 0x20) return this.failAt(i, "an unescaped control character in a string");
      if (byte === 0x5c) i++;
      plain = false;
    }
    return this.failAt(start - 1, "a string without an end");
  }

  /**
   * The array of counts that starts here, into `counts` from its beginning; how many there are. Without a callback: a header
   * has two such arrays for each of 100,000 tensors.
   */
  readCounts(counts: number[], limit: number, what: () => string): number {
    if (this.peek() !== 0x5b) return this.fail(`where ${what()} belongs is no array`);
    this.position++;
    let count = 0;
    if (this.peek() === 0x5d) {
      this.position++;
      return count;
    }
    for (;;) {
      if (count === limit) return this.fail(`more than ${limit} numbers where ${what()} belongs`);
      counts[count++] = this.readCount(what);
      if (this.peek() !== 0x2c) break;
      this.position++;
    }
    this.expect(0x5d);
    return count;
  }

  /** A whole number from 0 to 2^53 - 1, written with digits only. */
  readCount(what: () => string): number {
    this.peek();
    const start = this.position;
    let value = 0;
    let end = start;
    for (; end < start + 16; end++) {
      const digit = this.bytes[end]! - 0x30;
      if (!(digit >= 0 && digit <= 9)) break;
      value = value * 10 + digit;
    }
    const hasLeadingZero = this.bytes[start] === 0x30 && end > start + 1;
    if (end > start && !hasLeadingZero && isDelimiter(this.bytes[end]) && Number.isSafeInteger(value)) {
      this.position = end;
      return value;
    }
    return this.fail(`${what()} is ${quote(this.readWord())}, expected a whole number from 0 to 2^53 - 1`);
  }

  /** Any value. Objects have no prototype; a repeated key keeps its last value, as in Python and JSON.parse. */
  readValue(depth = 0): JsonValue {
    if (depth > maxJsonDepth) return this.failAt(this.position, `more than ${maxJsonDepth} nested values`);
    switch (this.peek()) {
      case 0x7b: {
        const object = Object.create(null) as { [key: string]: JsonValue };
        this.readObject((key) => (object[key] = this.readValue(depth + 1)));
        return object;
      }
      case 0x5b: {
        const array: JsonValue[] = [];
        this.readArray(() => array.push(this.readValue(depth + 1)));
        return array;
      }
      case 0x22:
        return this.readString();
      default:
        return this.readLiteral();
    }
  }

  /** Reads a value and forgets it. */
  skipValue(depth = 0): void {
    if (depth > maxJsonDepth) this.failAt(this.position, `more than ${maxJsonDepth} nested values`);
    const first = this.peek();
    if (first === 0x7b) this.readObject(() => this.skipValue(depth + 1));
    else if (first === 0x5b) this.readArray(() => this.skipValue(depth + 1));
    else if (first === 0x22) this.readString();
    else this.readLiteral();
  }

  /** Fails unless only white space is left. */
  readEnd(): void {
    if (this.peek() !== undefined) this.failAt(this.position, "text after the end of the JSON value");
  }

  /** The next byte that is not white space, not taken. */
  peek(): number | undefined {
    const { bytes } = this;
    for (; this.position < bytes.length; this.position++) {
      const byte = bytes[this.position]!;
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
    }
    return undefined;
  }

  private expect(byte: number): void {
    const found = this.peek();
    if (found !== byte) {
      const shown = found === undefined ? "the end" : quote(String.fromCharCode(found));
      this.failAt(this.position, `${shown} where ${quote(String.fromCharCode(byte))} was expected`);
    }
    this.position++;
  }

  /** ASCII text. The few words that fill a header (keys, dtypes) or an index (shards) are made once: it halves the time. */
  private plainText(start: number, end: number, longestWord: number): string {
    const length = end - start;
    if (length === 0 || length > longestWord) return this.bytes.toString("latin1", start, end);
    const slot = (length * 31 + this.bytes[start]! * 7 + this.bytes[end - 1]!) & 255;
    const known = this.words[slot];
    if (known?.length === length) {
      let i = 0;
      while (i < length && known.charCodeAt(i) === this.bytes[start + i]) i++;
      if (i === length) return known;
    }
    return (this.words[slot] = this.bytes.toString("latin1", start, end));
  }

  private unescape(start: number, end: number): string {
    let text: string;
    try {
      const raw = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.bytes.subarray(start, end));
      text = JSON.parse(`"${raw}"`) as string;
    } catch {
      return this.failAt(start, "a string with a wrong escape or invalid UTF-8");
    }
    // Half a surrogate pair has no UTF-8 form: two such names would become one when written.
    return /\p{Surrogate}/u.test(text) ? this.failAt(start, "half a surrogate pair in a string") : text;
  }

  /** Python writes NaN and Infinity into config files; they are read as numbers. */
  private readLiteral(): JsonValue {
    const text = this.readWord();
    switch (text) {
      case "true":
        return true;
      case "false":
        return false;
      case "null":
        return null;
      case "NaN":
        return NaN;
      case "Infinity":
        return Infinity;
      case "-Infinity":
        return -Infinity;
    }
    if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return Number(text);
    return this.failAt(this.position - text.length, `${quote(text)} where a value was expected`);
  }

  /** A number or literal as it is spelled: everything up to the next delimiter. */
  readWord(): string {
    if (this.peek() === undefined) return this.failAt(this.position, "the end where a value was expected");
    const start = this.position;
    let end = start;
    for (; !isDelimiter(this.bytes[end]); end++) {
      if (end - start > 400) return this.failAt(start, "a number or word of more than 400 characters");
    }
    this.position = end;
    return this.bytes.toString("latin1", start, end);
  }

  private failAt(position: number, problem: string): never {
    return this.fail(`${problem}, at byte ${position}`);
  }
}

/** 1 for what stands in a string for itself: ASCII without quotes, backslashes and control characters. */
const isOrdinary = Uint8Array.from({ length: 256 }, (_, byte) =>
  Number(byte >= 0x20 && byte < 0x80 && byte !== 0x22 && byte !== 0x5c),
);

/** What may follow a number or literal: punctuation, a quote, white space, the end. */
function isDelimiter(byte: number | undefined): boolean {
  switch (byte) {
    case undefined:
    case 0x22:
    case 0x2c:
    case 0x3a:
    case 0x5b:
    case 0x5d:
    case 0x7b:
    case 0x7d:
      return true;
    default:
      return byte <= 0x20;
  }
}
