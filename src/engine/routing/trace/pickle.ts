/**
 * Reads a pickle (Python's pickletools lists the opcodes) as plain data: no class is looked up and nothing is called but the
 * few constructors that the reader is given. Dictionaries become Maps, tuples and lists arrays, None null.
 *
 * @param construct the callables that may be named, as "module name"; each gets its arguments
 * @param persistent what a persistent id stands for (PyTorch keeps its storages so)
 * @throws Error for any opcode, name or value outside of that
 */
export function unpickle(
  bytes: Uint8Array,
  construct: ReadonlyMap<string, (...args: unknown[]) => unknown>,
  persistent: (id: unknown) => unknown,
): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = 0;
  const take = (length: number): number => {
    const from = at;
    at += length;
    if (at > bytes.length) throw new Error("it ends in the middle of a value");
    return from;
  };
  const u8 = (): number => view.getUint8(take(1));
  const u16 = (): number => view.getUint16(take(2), true);
  const u32 = (): number => view.getUint32(take(4), true);
  const text = (length: number): string => {
    const from = take(length);
    return Buffer.from(bytes.subarray(from, at)).toString("utf8");
  };
  const line = (): string => {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0) throw new Error("it ends in the middle of a name");
    const found = text(end - at);
    at++;
    return found;
  };
  const pop = (): unknown => {
    if (stack.length === 0 || stack.at(-1) === mark) throw new Error("it takes more values than it has");
    return stack.pop();
  };
  const popMarked = (): unknown[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) throw new Error("a mark is missing");
    const items = stack.splice(from);
    return items.slice(1);
  };
  const top = <T>(isKind: (value: unknown) => value is T): T => {
    const value = stack.at(-1);
    if (!isKind(value)) throw new Error("it adds to what is no list or dictionary");
    return value;
  };
  const setItems = (items: unknown[]): void => {
    const target = top((value) => value instanceof Map);
    for (let i = 0; i + 1 < items.length; i += 2) target.set(items[i], items[i + 1]);
  };
  const named = (name: string): Callable => {
    const make = construct.get(name);
    if (make) return new Callable(name, make);
    throw new Error(`it asks for ${JSON.stringify(name.slice(0, 80))}, which is not among what is read`);
  };
  const recall = (key: number): void => {
    if (!memo.has(key)) throw new Error("it recalls what it never kept");
    stack.push(memo.get(key));
  };
  const keep = (key: number): unknown => memo.set(key, stack.at(-1));
  const tuple = (length: number): unknown => {
    const items = Array.from({ length }, pop).reverse();
    return stack.push(items);
  };

  const opcodes: Record<number, (() => unknown) | undefined> = {
    0x80: () => u8(), // PROTO
    0x95: () => take(8), // FRAME
    0x28: () => stack.push(mark), // MARK
    0x4e: () => stack.push(null), // NONE
    0x88: () => stack.push(true), // NEWTRUE
    0x89: () => stack.push(false), // NEWFALSE
    0x4b: () => stack.push(u8()), // BININT1
    0x4d: () => stack.push(u16()), // BININT2
    0x4a: () => stack.push(view.getInt32(take(4), true)), // BININT
    0x8a: () => stack.push(longOf(bytes.subarray(take(u8()), at))), // LONG1
    0x47: () => stack.push(view.getFloat64(take(8))), // BINFLOAT
    0x8c: () => stack.push(text(u8())), // SHORT_BINUNICODE
    0x58: () => stack.push(text(u32())), // BINUNICODE
    0x7d: () => stack.push(new Map()), // EMPTY_DICT
    0x5d: () => stack.push([]), // EMPTY_LIST
    0x29: () => stack.push([]), // EMPTY_TUPLE
    0x85: () => tuple(1),
    0x86: () => tuple(2),
    0x87: () => tuple(3),
    0x74: () => stack.push(popMarked()), // TUPLE
    0x71: () => keep(u8()), // BINPUT
    0x72: () => keep(u32()), // LONG_BINPUT
    0x94: () => keep(memo.size), // MEMOIZE
    0x68: () => recall(u8()), // BINGET
    0x6a: () => recall(u32()), // LONG_BINGET
    0x61: () => {
      const item = pop();
      return top(isList).push(item);
    }, // APPEND
    0x65: () => {
      const items = popMarked();
      const list = top(isList);
      for (const item of items) list.push(item);
    }, // APPENDS
    0x73: () => {
      const value = pop();
      setItems([pop(), value]);
    }, // SETITEM
    0x75: () => setItems(popMarked()), // SETITEMS
    0x63: () => {
      const module = line();
      stack.push(named(`${module} ${line()}`));
    }, // GLOBAL
    0x93: () => {
      const name = pop();
      stack.push(named(`${String(pop())} ${String(name)}`));
    }, // STACK_GLOBAL
    0x51: () => stack.push(persistent(pop())), // BINPERSID
    0x52: () => {
      // REDUCE
      const args = pop();
      const callable = pop();
      if (!(callable instanceof Callable) || !isList(args)) throw new Error("it calls what cannot be called");
      stack.push(callable.make(...args));
    },
  };

  while (at < bytes.length) {
    const opcode = u8();
    if (opcode === 0x2e) return pop(); // STOP
    const act = opcodes[opcode];
    if (!act) throw new Error(`opcode 0x${opcode.toString(16)} at byte ${at - 1} is not among what is read`);
    act();
  }
  throw new Error("it does not end");
}

const mark = Symbol("mark");

function isList(value: unknown): value is unknown[] {
  return Array.isArray(value);
}

/** A name from the pickle that may be called. */
export class Callable {
  constructor(
    readonly name: string,
    readonly make: (...args: unknown[]) => unknown,
  ) {}
}

/** A little-endian integer in two's complement. */
function longOf(bytes: Uint8Array): number {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return Number(BigInt.asIntN(8 * Math.max(1, bytes.length), value));
}
