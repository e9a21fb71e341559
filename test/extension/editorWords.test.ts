import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { editorWords } from "../../src/extension/editorWords";
import { english } from "../../src/protocol/translate";

/**
 * Where the command line is what somebody has before them: starting workers, other programs' options, arguments of processes, and
 * what only a worker or the command line says.
 */
const elsewhere =
  /run\/queue\/(pathMap|presence|spreadRun)\.ts|run\/tiles\/(tileStore|runTile)\.ts|trace\/imatrix\.ts|runtime\/garbage\.ts/;

it("no message of the engine names an option of the command line in the editor", () => {
  const files = readdirSync("src/engine", { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !elsewhere.test(file.split(path.sep).join("/")))
    .map((file) => path.join("src/engine", file));
  const found = files.flatMap((file) =>
    readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => !/^\s*(\/?\*|\/\/)/.test(line) && /["'`].* ?\(?--[a-z]{3}/.test(line))
      .map((line) => editorWords(line.replaceAll(/\$\{[^}]*\}/g, "1"), english))
      .filter((line) => /--[a-z]{3}/.test(line))
      .map((line) => `${file}: ${line.trim()}`),
  );
  expect(found).toEqual([]);
});

it.each([
  [
    "not this teacher; choose that teacher, or use --force to go on",
    "not this teacher; choose that teacher, or start it all the same",
  ],
  [
    "needs 2 GiB; use the option damping (--set damping), with which it fits, or set at least --memory 512MiB",
    "needs 2 GiB; use the option damping, with which it fits, or set the memory to at least 512MiB (setting reroute.memory)",
  ],
  [
    'Or choose cpu: "provider" in the recipe, --provider, or the setting reroute.provider',
    'Or choose cpu: "provider" in the recipe, or the setting reroute.provider',
  ],
  ["give about 2 GiB (--memory), or ask", "give about 2 GiB (setting reroute.memory), or ask"],
  ["who did what; run without --queue", "who did what; clear the setting reroute.queue"],
  ["Name another column with --column KEY", "Name another column with data.column in the recipe"],
  ["--sequence-length 512 fits", "data.sequenceLength 512 in the recipe fits"],
  ["choose the CPU (--provider cpu), or precision exact", "choose the CPU, or precision exact"],
  ["use --set effect=local", "use effect=local in the recipe's options"],
  ["nothing to say otherwise", "nothing to say otherwise"],
])("%s", (message, said) => {
  expect(editorWords(message, english)).toBe(said);
});
