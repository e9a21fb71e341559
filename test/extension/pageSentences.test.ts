import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { untranslatedStrings } from "../support/visibleStrings";

/** What messages between page and host are logged with: read by whoever repairs it, like the rest of the log. */
const logged = "webview/common/messaging.ts";
/** Files that are saved are English, as reports are. */
const saved = "webview/playground/exported.ts";

const pages = readdirSync("webview", { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== "common")
  .map(({ name }) => name);

it.each(["common", ...pages])("webview/%s shows no sentence that cannot be translated", (folder) => {
  const files = readdirSync(path.join("webview", folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts"))
    .map((file) => path.join("webview", folder, file))
    .filter((file) => file !== logged && file !== saved);
  const found = files.flatMap((file) =>
    untranslatedStrings(file, readFileSync(file, "utf8")).map(({ line, text }) => `${file}:${line}: ${text}`),
  );
  expect(found).toEqual([]);
});

it.each<[string, string[]]>([
  [`element("h2", {}, "Recent runs")`, ["Recent runs"]],
  ["const title = `Layer ${n} of ${m}`", ["Layer {0} of {1}"]],
  [`const axis = { title: wide ? "Layer" : t("Expert") }`, ["Layer"]],
  [`element("p", { class: "muted note", "aria-label": t("A chart") }, t("{0} of {1} tokens", 1, 2))`, []],
  [`if (event.key === "Enter" || kind === "no gain") page.querySelector("main p")`, []],
])("of %s", (source, texts) => {
  expect(untranslatedStrings("page.ts", source).map(({ text }) => text)).toEqual(texts);
});
