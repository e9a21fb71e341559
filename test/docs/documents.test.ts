import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { numberDefinitions } from "../../src/engine/report/definitions";
import { statisticsFields } from "../../src/engine/routing/layerStatistics";
import { errorCodes } from "../../src/protocol/errors";
import { runFiles } from "../../src/protocol/run";
import { familiesAsMarkdown } from "../../src/cli/commands/families";
import { runCli } from "../../src/cli/program";
import { cellMeasures, layerMeasures } from "../../webview/routing/measures";
import { costs, qualities } from "../../webview/tradeOff/measures";

/** Documents and code say the same. */
const read = (name: string): Promise<string> => readFile(path.join(__dirname, "../../docs", name), "utf8");
const firstCells = (markdown: string): string[] =>
  markdown
    .split("\n")
    .filter((line) => /^\| [^-]/.test(line))
    .map((line) => line.split(/(?<!\\)\|/)[1]!.trim());

describe("documents in step with the code", () => {
  it("errors.md lists every code with its meaning, and no other", async () => {
    const text = await read("errors.md");
    const codes = firstCells(text)
      .slice(1)
      .map((cell) => cell.replaceAll("`", ""));
    expect(codes).toEqual(Object.keys(errorCodes));
    for (const [code, meaning] of Object.entries(errorCodes))
      expect(text).toMatch(new RegExp(`\`${code}\` +\\| ${meaning.replace(/[.()]/g, "\\$&")}`));
    expect(text).not.toMatch(/\| \? /);
  });

  it("numbers.md defines every number of the report", async () => {
    const text = await read("numbers.md");
    expect(firstCells(text).slice(1)).toEqual(numberDefinitions.map(({ name }) => name));
    for (const { meaning, source } of numberDefinitions) {
      expect(text).toContain(meaning.replaceAll("|", "\\|"));
      expect(text).toContain(source);
    }
  });

  it("numbers.md defines what the panels show, by the same name", () => {
    const plain = (text: string): string => text.toLowerCase().replaceAll("-", " ");
    const names = numberDefinitions.map(({ name }) => plain(name));
    const shown = [
      ...Object.values(cellMeasures).map(({ label }) => label),
      ...layerMeasures.flatMap(({ series }) => series.map(({ label }) => label)),
      ...Object.values(costs).map(({ label }) => label),
      ...Object.values(qualities).map(({ label }) => label),
    ];
    for (const label of shown) expect(names.filter((name) => plain(label).includes(name))).not.toEqual([]);
  });

  it("run-folder.md names every file and every tensor", async () => {
    const text = await read("run-folder.md");
    for (const name of Object.values(runFiles)) expect(text).toContain(name);
    for (const field of statisticsFields) expect(text).toContain(`layers.<l>.${field}`);
  });

  it("cli.md names every command and every option", async () => {
    const text = await read("cli.md");
    const help = async (...argv: string[]): Promise<string> => {
      let out = "";
      const io = {
        out: (t: string) => (out += t),
        err: () => undefined,
        isTerminal: false,
        columns: 80,
        signal: new AbortController().signal,
        cwd: ".",
      };
      await runCli([...argv, "--help"], io);
      return out;
    };
    const commands = [...(await help()).matchAll(/^ {2}([a-z-]+) /gm)]
      .map((match) => match[1]!)
      .filter((name) => name !== "help");
    expect(commands.length).toBe(20);
    for (const command of commands) {
      expect(text).toContain(`reroute ${command} `);
      for (const [option] of (await help(command)).matchAll(/--[a-z][a-z-]+/g)) {
        if (option !== "--help") expect(text, `${command} ${option}`).toContain(option);
      }
    }
  });

  it("families.md has the table that the command prints", async () => {
    const cells = (line: string) => line.split("|").map((cell) => cell.trim());
    const rows = (await read("families.md")).split("\n").filter((line) => /^\| `[a-z0-9_]+` /.test(line));
    const listed = rows.slice(1);
    const printed = familiesAsMarkdown().split("\n").slice(2, -1);
    expect(listed.map(cells)).toEqual(printed.map(cells));
  });

  it("ARCHITECTURE.md lists the engine's folders in the order that the import rules hold", async () => {
    const root = path.join(__dirname, "../..");
    const config = pathToFileURL(path.join(root, ".dependency-cruiser.mjs")).href;
    const { engineFolders } = (await import(config)) as { engineFolders: string[] };
    const architecture = await readFile(path.join(root, "ARCHITECTURE.md"), "utf8");
    expect(architecture.split("\n").length).toBeLessThan(150);
    for (const [file] of architecture.matchAll(/src\/[\w/]+\.ts/g))
      expect(existsSync(path.join(root, file)), file).toBe(true);
    const listed = firstCells(architecture)
      .filter((cell) => cell.endsWith("/`"))
      .map((cell) => cell.slice(1, -2));
    expect(listed).toEqual(engineFolders);
    const entries = await readdir(path.join(root, "src/engine"), { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    expect([...engineFolders].sort()).toEqual(folders.sort());
  });

  it("an exported name means one thing", async () => {
    const owners = new Map<string, string[]>();
    for (const folder of ["src", "webview"]) {
      const root = path.join(__dirname, "../..", folder);
      for (const file of await readdir(root, { recursive: true })) {
        if (!file.endsWith(".ts")) continue;
        const text = await readFile(path.join(root, file), "utf8");
        const exported = /^export (?:async |abstract )?(?:function\*?|const|class|interface|type|enum) (\w+)/gm;
        for (const name of new Set([...text.matchAll(exported)].map(([, found]) => found!)))
          owners.set(name, [...(owners.get(name) ?? []), `${folder}/${file}`]);
      }
    }
    expect(owners.size).toBeGreaterThan(1000);
    // A schema of the protocol and the type inferred from it are two faces of one thing.
    expect([...owners].filter(([, files]) => files.length > 1)).toEqual([]);
  });
});
