/** A value in JSON text: where it stands, and the keys that lead to it. */
export interface JsonPlace {
  /** Keys and, in arrays, indices. */
  keys: readonly (string | number)[];
  /** Of the value, quotes included. */
  start: number;
  end: number;
  /** Text of a string or number as it is meant; null for what is neither. */
  value: string | number | null;
}

/**
 * The strings, numbers and other scalars of JSON text, in order. Text that is being typed is rarely valid: what cannot be read is
 * skipped, and a string without its end ends with its line.
 */
export function jsonPlaces(text: string): JsonPlace[] {
  const places: JsonPlace[] = [];
  const stack: { array: boolean; key: string | number }[] = [];
  const token = /[{}[\],:]|"(?:[^"\\\n]|\\.)*"?|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/g;
  let afterColon = false;
  for (const match of text.matchAll(token)) {
    const [raw] = match;
    const top = stack.at(-1);
    if (raw === "{" || raw === "[") {
      stack.push({ array: raw === "[", key: raw === "[" ? 0 : "" });
      afterColon = false;
    } else if (raw === "}" || raw === "]") {
      stack.pop();
      afterColon = false;
    } else if (raw === ",") {
      if (top?.array) top.key = Number(top.key) + 1;
      afterColon = false;
    } else if (raw === ":") afterColon = true;
    else if (top && !top.array && !afterColon) top.key = stringOf(raw);
    else
      places.push({
        keys: stack.map(({ key }) => key),
        start: match.index,
        end: match.index + raw.length,
        value: raw.startsWith('"') ? stringOf(raw) : /^[-\d]/.test(raw) ? Number(raw) : null,
      });
  }
  return places;
}

/** The scalar that an offset lies in, quotes included; null between values and in keys. */
export function placeAt(text: string, offset: number): JsonPlace | null {
  return jsonPlaces(text).find(({ start, end }) => start <= offset && offset <= end) ?? null;
}

function stringOf(raw: string): string {
  try {
    return String(JSON.parse(raw.endsWith('"') && raw.length > 1 ? raw : `${raw}"`));
  } catch {
    return raw.replace(/^"|"$/g, "");
  }
}
