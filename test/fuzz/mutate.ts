import type { Random } from "../../src/engine/tensor/random";

/** Values that have broken readers before. */
const hostileValues: unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0.5,
  1e308,
  2 ** 31,
  2 ** 53,
  "",
  " ",
  "\ud800",
  "__proto__",
  "constructor",
  "../../etc/passwd",
  "\u0000",
  "\u202e",
  "(",
  "(a+)+$",
  "(x+x+)+y",
  "[",
  "\\",
  "(?<=a)b",
  "\\p{Foo}",
  "a".repeat(10_000),
  [],
  [[]],
  {},
  { __proto__x: 1 },
  [null],
  { Regex: 5 },
  { String: "" },
];

/** Bytes that mean something to JSON, UTF-8 or lines of text. */
const hostileBytes = [
  "\n",
  "\r\n",
  "\n\n",
  "\0",
  "\u2028",
  "\ufeff",
  '"',
  "\\",
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  "null",
  "NaN",
  "1e999",
  "-",
  "\\ud800",
  "\\u0000",
  '"text":',
  '"domain":',
  '"__proto__":',
  '{"text":"x"}',
  '{"text":"x","domain":"__proto__"}',
  "<|endoftext|>",
]
  .map((text) => Buffer.from(text))
  .concat(
    [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xc0, 0xaf], [0xe2, 0x82], [0xfe, 0xff]].map(
      (bytes) => Buffer.from(bytes),
    ),
  );

/** One to six edits of bytes: flips, insertions, deletions, repetitions, swaps and truncation. */
export function mutateBytes(original: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(original);
  for (let edit = random.below(6); edit >= 0; edit--) {
    const at = random.below(bytes.length + 1);
    const span = Math.min(bytes.length - at, 1 + random.below(40));
    const [head, middle, tail] = [bytes.subarray(0, at), bytes.subarray(at, at + span), bytes.subarray(at + span)];
    switch (random.below(7)) {
      case 0:
        if (at < bytes.length) bytes[at] = random.below(256);
        break;
      case 1:
        bytes = Buffer.concat([head, hostileBytes[random.below(hostileBytes.length)]!, middle, tail]);
        break;
      case 2:
        bytes = Buffer.concat([head, tail]);
        break;
      case 3:
        bytes = Buffer.concat([head, middle, middle, middle, tail]);
        break;
      case 4:
        bytes = Buffer.concat([tail, middle, head]);
        break;
      case 5:
        bytes = Buffer.concat([head, hostileBytes[random.below(hostileBytes.length)]!, tail]);
        break;
      default:
        if (random.below(4) === 0) bytes = head;
    }
  }
  return bytes;
}

/** One to four edits of a JSON value: a random place gets a hostile value, another place's value, is removed or nested. */
export function mutateJson(original: unknown, random: Random): unknown {
  const root: { value: unknown } = { value: structuredClone(original) };
  for (let edit = random.below(4); edit >= 0; edit--) {
    const places = placesOf(root, random);
    const [holder, key] = places[random.below(places.length)]!;
    const other = places[random.below(places.length)]!;
    switch (random.below(6)) {
      case 0:
      case 1:
        set(holder, key, structuredClone(hostileValues[random.below(hostileValues.length)]));
        break;
      case 2:
        set(holder, key, structuredClone(other[0][other[1]]));
        break;
      case 3:
        if (Array.isArray(holder)) holder.splice(Number(key), 1);
        else if (holder !== root) Reflect.deleteProperty(holder, key);
        break;
      case 4:
        set(holder, `${key}${random.below(2) === 0 ? "" : "x"}`, nested(holder[key], 1 + random.below(200)));
        break;
      default:
        set(
          holder,
          ["__proto__", "constructor", "type", "pattern", "behavior", "id"][random.below(6)]!,
          structuredClone(hostileValues[random.below(hostileValues.length)]),
        );
    }
  }
  return root.value;
}

type Holder = { [key: string]: unknown };

/** Places of the value, where long lists and dictionaries count with a few of their entries only. */
function placesOf(root: Holder, random: Random): [Holder, string][] {
  const places: [Holder, string][] = [];
  const visit = (holder: Holder, depth: number) => {
    const keys = Object.keys(holder);
    const start = keys.length > 12 ? random.below(keys.length - 12) : 0;
    for (const key of keys.slice(start, start + 12)) {
      places.push([holder, key]);
      const value = holder[key];
      if (typeof value === "object" && value !== null && depth < 40) visit(value as Holder, depth + 1);
    }
  };
  visit(root, 0);
  return places;
}

/** Defines instead of assigning, so that "__proto__" becomes a key as JSON.parse makes it; a list grows. */
function set(holder: Holder, key: string, value: unknown): void {
  if (Array.isArray(holder) && !/^\d+$/.test(key)) holder.push(value);
  else Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

function nested(value: unknown, depth: number): unknown {
  const wrappers = [(inner: unknown) => [inner], (inner: unknown) => ({ type: "Sequence", pretokenizers: [inner] })];
  let result = value;
  for (let i = 0; i < depth; i++) result = wrappers[i % 2]!(result);
  return result;
}
