import { expect, test } from "vitest";
import { ResponseText } from "../../../src/engine/generation/responseText";

/** Bytes as tokens, as byte-level tokenizers have them; 256 is special. */
const decoder = {
  decode: (ids: Int32Array) => new TextDecoder().decode(Uint8Array.from(ids)),
  isSpecial: (id: number) => id === 256,
};
const bytes = (text: string) => Array.from(new TextEncoder().encode(text));

/** What each token gave, and what was left at the end. */
function given(tokens: number[], stops: string[] = []) {
  const response = new ResponseText(decoder, Int32Array.from(bytes("Prompt")), stops);
  const pieces: string[] = [];
  for (const id of tokens) {
    pieces.push(response.push(id));
    if (response.stopped) break;
  }
  return { pieces, end: response.end(), text: response.text, stopped: response.stopped };
}

test.each([
  ["letters come at once", bytes("abc"), [], ["a", "b", "c"], "", "abc"],
  ["a character of three bytes comes once it is whole", bytes("€x"), [], ["", "", "€", "x"], "", "€x"],
  ["special tokens have no text", [...bytes("a"), 256, ...bytes("b")], [], ["a", "", "b"], "", "ab"],
  ["what may become a stop string waits", bytes("a##b"), ["###"], ["a", "", "", "##b"], "", "a##b"],
  ["what waited comes at the end", bytes("a#"), ["##"], ["a", ""], "#", "a#"],
  ["a stop string ends the text before it", bytes("ab\n\nc"), ["\n\n"], ["a", "b", "", ""], "", "ab"],
  ["the first of several stops counts", bytes("xyz"), ["yz", "y"], ["x", ""], "", "x"],
  ["a broken character is given at the end", [0xe2, 0x82], [], ["", ""], "\ufffd", "\ufffd"],
] as const)("%s", (_, tokens, stops, pieces, end, text) => {
  expect(given([...tokens], [...stops])).toMatchObject({ pieces, end, text });
});
