// Collects the sentences of the extension and its pages into l10n/bundle.l10n.json, which translators copy to bundle.l10n.<language>.json.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Every string literal that is the first argument of `t(...)` or `l10n.t(...)` in the sources, in order of the alphabet. */
export function collectSentences(folders = ["src/extension", "webview"]) {
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => path.join(folder, file)),
  );
  const call = /(?<![\w$])t\(\s*("(?:[^"\\]|\\.)*")/g;
  const found = files.flatMap((file) => {
    const source = readFileSync(file, "utf8");
    return [...source.matchAll(call)].map((match) => JSON.parse(match[1]));
  });
  return Object.fromEntries([...new Set(found)].sort().map((sentence) => [sentence, sentence]));
}

if (process.argv[1]?.endsWith("l10n.mjs")) {
  writeFileSync("l10n/bundle.l10n.json", `${JSON.stringify(collectSentences(), null, 2)}\n`);
}
