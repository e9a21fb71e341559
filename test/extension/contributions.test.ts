import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { collectSentences } from "../../scripts/l10n.mjs";
import { colourScales, pageCommands } from "../../src/protocol/pageMessages";
import { pageNames } from "../../src/protocol/pageData";
import { providerChoices } from "../../src/protocol/recipe";

interface Manifest {
  contributes: {
    commands: { command: string; title: string; category: string; icon: string; enablement?: string }[];
    menus: Record<string, { command: string; when?: string }[]>;
    views: Record<string, { id: string; name: string }[]>;
    viewsWelcome: { view: string; contents: string }[];
    configuration: { properties: Record<string, { default: unknown; enum?: string[]; markdownDescription: string }> };
    walkthroughs: { steps: { media: { image: Record<string, string> }; description: string }[] }[];
    jsonValidation: { url: string }[];
    keybindings: { command: string; when: string; args?: { fromTree: boolean } }[];
  };
  activationEvents: string[];
}
const text = readFileSync("package.json", "utf8");
const { contributes, activationEvents } = JSON.parse(text) as Manifest;
const nls = JSON.parse(readFileSync("package.nls.json", "utf8")) as Record<string, string>;
const sources = readdirSync("src/extension", { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => readFileSync(path.join("src/extension", file), "utf8"))
  .join("\n");
const wiring = readFileSync("src/extension/extension.ts", "utf8");
const contributed = contributes.commands.map(({ command }) => command);

describe("package.json and the code are in step", () => {
  it("keys do what commands of the table do, and those pressed in the tree mean what is selected there", () => {
    for (const { command, when, args } of contributes.keybindings) {
      expect(contributed).toContain(command);
      expect(args?.fromTree === true).toBe(when.includes("listFocus"));
    }
  });

  it("every contributed command is in the wiring table, and every row of the table is contributed", () => {
    const table = /const commands: Record<string, Command> = \{([\s\S]*?)\n {2}\};/.exec(wiring)![1]!;
    const rows = [...table.matchAll(/^ {4}(\w+): /gm)].map((match) => `reroute.${match[1]!}`);
    expect(rows.sort()).toEqual([...contributed].sort());
  });

  it("pages can ask for contributed commands only", () => {
    for (const command of pageCommands) expect(contributed).toContain(`reroute.${command}`);
  });

  it("menus, welcome texts and walkthroughs name commands and views that exist", () => {
    const views = Object.values(contributes.views)
      .flat()
      .map(({ id }) => id);
    for (const item of Object.values(contributes.menus).flat()) expect(contributed).toContain(item.command);
    for (const { view } of contributes.viewsWelcome) expect(views).toContain(view);
    const linked = Object.values(nls).flatMap((value) =>
      [...value.matchAll(/\(command:(reroute\.\w+)\)/g)].map((match) => match[1]!),
    );
    expect(linked.length).toBeGreaterThan(5);
    for (const command of linked) expect(contributed).toContain(command);
  });

  it("leaves the palette to each command's enablement, which VS Code hides it by", () => {
    expect(contributes.menus["commandPalette"]).toBeUndefined();
    const always = contributes.commands.filter(({ enablement }) => enablement === undefined);
    expect(always.map(({ command }) => command.replace("reroute.", "")).sort()).toEqual([
      "filterHubModels",
      "refreshCheckpoints",
      "refreshRuns",
      "reportIssue",
      "showDocumentation",
      "showEngineLog",
    ]);
  });

  it("settings that are read are contributed, and the other way round", () => {
    const read = [
      ...readFileSync("src/extension/settings.ts", "utf8").matchAll(/settings\.get(?:<\w+>)?\("(\w+)"/g),
    ].map((m) => `reroute.${m[1]!}`);
    expect([...new Set(read)].sort()).toEqual(Object.keys(contributes.configuration.properties).sort());
    expect(contributes.configuration.properties["reroute.provider"]!.enum).toEqual([...providerChoices]);
    expect(contributes.configuration.properties["reroute.colourScale"]!.enum).toEqual([...colourScales]);
  });

  it("files that are named exist", () => {
    const named = [...text.matchAll(/"(?:\.\/)?(media\/[^"]+)"/g)].map((match) => match[1]!);
    for (const file of [...named, ...pageNames.map((page) => `webview/${page}/main.ts`)])
      expect(existsSync(file), file).toBe(true);
  });

  it("is activated by its panels, which VS Code does not derive, and by unfinished work, never by every start", () => {
    const panels = pageNames.filter((page) => !["overview", "tensors", "plan"].includes(page));
    expect(activationEvents).toEqual([
      // A plain path: VS Code looks for patterns with what .gitignore leaves, and run folders are left out there.
      "workspaceContains:.reroute/runs",
      ...panels.map((page) => `onWebviewPanel:reroute.${page}`),
      "onUri",
    ]);
  });
});

describe("texts", () => {
  it("every %key% has its text, and every text its key", () => {
    const keys = [...text.matchAll(/"%([\w.]+)%"/g)].map((match) => match[1]!);
    expect([...new Set(keys)].sort()).toEqual(Object.keys(nls).sort());
  });

  it("the bundle for translators is in step with the code", () => {
    expect(JSON.parse(readFileSync("l10n/bundle.l10n.json", "utf8"))).toEqual(collectSentences());
  });

  it("no message box says anything that cannot be translated", () => {
    const plain = [...sources.matchAll(/show(?:Information|Warning|Error)Message\(\s*["'`]/g)];
    expect(plain).toEqual([]);
  });
});
