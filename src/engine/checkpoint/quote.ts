const shownCharacters = 120;

/**
 * A name from an untrusted file, quoted for a message: control and direction characters escaped, cut when long, so that
 * it cannot forge lines or reverse text in a log.
 */
export function quote(name: string): string {
  const shown = name.length > shownCharacters ? `${name.slice(0, shownCharacters)}...` : name;
  return JSON.stringify(shown).replace(
    /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
