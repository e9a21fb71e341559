/** Making text of unknown origin safe to read. Inertness comes from textContent; this keeps it from misleading or flooding. */

/** Control characters, line separators and the marks that change the direction of what follows. */
// eslint-disable-next-line no-control-regex -- finding control characters is the purpose
const invisible = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** The same text with every invisible or direction-changing character written out, e.g. "⟨U+202E⟩". */
export function showInvisible(text: string): string {
  return text.replace(
    invisible,
    (character) => `⟨U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

/** At most `max` characters: the middle is cut, since paths and tensor names differ at both ends. */
export function cutMiddle(text: string, max: number): string {
  if (text.length <= max) return text;
  const head = Math.ceil((max - 1) / 2);
  const tail = Math.floor((max - 1) / 2);
  // Neither half may end inside a surrogate pair.
  const start = text.slice(0, head).replace(/[\ud800-\udbff]$/u, "");
  const end = tail === 0 ? "" : text.slice(-tail).replace(/^[\udc00-\udfff]/u, "");
  return `${start}…${end}`;
}

/** White space as signs, so that a token that is only a space or a line can be seen. */
export function visibleSpaces(text: string): string {
  return text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·");
}

/** Text for a canvas or a title attribute, where no element can isolate it. */
export function plainLabel(text: string, max = 40): string {
  return cutMiddle(showInvisible(text.slice(0, 20_000)), max);
}
