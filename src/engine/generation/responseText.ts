import type { TokenDecoder as TextDecoder } from "../data/tokenizer";

/** Tokens of the prompt that are decoded before a response, so that its first token gets the space it has there. */
const contextTokens = 5;

/**
 * Text of a response as its tokens come: a character of several tokens is given once it is whole, and nothing is given that
 * may become one of the stop strings. Special tokens have no text.
 */
export class ResponseText {
  /** All that was given so far. */
  text = "";
  stopped = false;
  readonly #ids: number[];
  /** Tokens [context, read) were given; decoding begins with them because some decoders look back. */
  #context = 0;
  #read: number;
  #held = "";

  constructor(
    readonly decoder: TextDecoder,
    prompt: Int32Array,
    readonly stops: readonly string[],
  ) {
    this.#ids = Array.from(prompt.slice(-contextTokens)).filter((id) => !decoder.isSpecial(id));
    this.#read = this.#ids.length;
  }

  /** @returns what the token adds to the text */
  push(id: number): string {
    if (this.stopped || this.decoder.isSpecial(id)) return "";
    this.#ids.push(id);
    const before = this.#decode(this.#context, this.#read);
    const after = this.#decode(this.#context, this.#ids.length);
    if (after.endsWith("\ufffd") || after.length <= before.length) return "";
    this.#context = this.#read;
    this.#read = this.#ids.length;
    return this.#give(after.slice(before.length));
  }

  /** What was held back, once no token follows. */
  end(): string {
    if (this.stopped) return "";
    const before = this.#decode(this.#context, this.#read);
    const rest = this.#decode(this.#context, this.#ids.length).slice(before.length);
    this.#read = this.#ids.length;
    const given = this.#give(rest);
    const held = this.#held;
    this.#held = "";
    this.text += held;
    return given + held;
  }

  #give(added: string): string {
    const all = this.#held + added;
    const places = this.stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    this.stopped = places.length > 0;
    const end = this.stopped ? Math.min(...places) : all.length - longestBeginning(all, this.stops);
    this.#held = this.stopped ? "" : all.slice(end);
    const given = all.slice(0, end);
    this.text += given;
    return given;
  }

  #decode(from: number, to: number): string {
    return from === to ? "" : this.decoder.decode(Int32Array.from(this.#ids.slice(from, to)));
  }
}

/** Characters at the end of a text with which one of the stops begins. */
function longestBeginning(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
