import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import { runCli } from "../../src/cli/program";
import { compressionMethods } from "../../src/protocol/methods";
import { providerChoices } from "../../src/protocol/recipe";

async function script(shell: string): Promise<string> {
  let out = "";
  const signal = new AbortController().signal;
  await runCli(["completion", shell], {
    out: (text) => (out += text),
    err: () => undefined,
    isTerminal: false,
    columns: 80,
    signal,
    cwd: ".",
  });
  return out;
}

it("bash completes commands, options, and the values of an option", async () => {
  const text = await script("bash");
  const complete = (...words: string[]) => {
    const array = words.map((word) => `'${word}'`).join(" ");
    const run = `${text}\nCOMP_WORDS=(${array}); COMP_CWORD=${words.length - 1}; _reroute; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return spawnSync("bash", ["-c", run], { encoding: "utf8" }).stdout.trim().split("\n");
  };
  expect(complete("reroute", "comp")).toEqual(["compress", "compare", "completion"]);
  expect(complete("reroute", "runs", "--se")).toEqual(["--search"]);
  expect(complete("reroute", "compress", "--method", "")).toEqual([...compressionMethods]);
  expect(complete("reroute", "evaluate", "m", "--provider", "c")).toEqual(
    providerChoices.filter((name) => name.startsWith("c")),
  );
  expect(complete("reroute", "run", "READ")).toEqual(["README.md"]);
});

it.each([
  ["zsh", "'--method["],
  ["fish", "-l method -x -a"],
])("%s gets commands, options and values", async (shell, option) => {
  const text = await script(shell);
  expect(text).toContain(option);
  for (const word of ["calibrate", "runs", ...compressionMethods]) expect(text).toContain(word);
});
