type Yaml = string | number | boolean | readonly Yaml[] | { readonly [key: string]: Yaml };

/** Lines of a YAML document. Texts that are not plain words are written as JSON strings, which YAML takes as they are. */
export function yamlOf(value: Yaml, indent = ""): string[] {
  if (Array.isArray(value)) {
    return (value as readonly Yaml[]).flatMap((item) => {
      const [first = "", ...rest] = yamlOf(item, `${indent}  `);
      return [`${indent}- ${first.slice(indent.length + 2)}`, ...rest];
    });
  }
  if (typeof value !== "object") return [`${indent}${scalar(value)}`];
  return Object.entries(value).flatMap(([key, item]) =>
    typeof item === "object"
      ? [`${indent}${key}:`, ...yamlOf(item, `${indent}  `)]
      : [`${indent}${key}: ${scalar(item)}`],
  );
}

function scalar(value: string | number | boolean): string {
  // Words alone: "1", "no" and "~" are not texts to YAML.
  const isPlain =
    typeof value !== "string" ||
    (/^[A-Za-z][\w./-]*$/.test(value) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(value));
  return isPlain ? String(value) : JSON.stringify(value);
}
