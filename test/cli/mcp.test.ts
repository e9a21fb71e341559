/** The agents' tools: over MCP with the engine's real services, and in step with what the extension contributes. */
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { z } from "zod";
import { agentServer } from "../../src/cli/commands/mcp";
import { readRecipe } from "../../src/cli/commands/run";
import { liveServices } from "../../src/engine/liveServices";
import { agentTools, type AgentHost } from "../../src/protocol/agentTools";
import { goldenCheckpoint } from "../support/goldens";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "reroute-mcp-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** What the tools asked the face to start. */
let started: string[] = [];
const host = (answers: Record<string, unknown> = {}): AgentHost => {
  const services = liveServices();
  const signal = new AbortController().signal;
  started = [];
  return {
    begun: new Set(),
    ask: async (method, params) =>
      method in answers ? (answers[method] as never) : services[method](params, { signal, emit: () => undefined }),
    readRecipe: async (file) => ({
      recipe: await readRecipe(file),
      baseFolder: path.dirname(file),
      runsFolder: folder,
    }),
    start: async (file) => {
      started.push(file);
      return path.join(folder, "run");
    },
  };
};

async function connect(answers?: Record<string, unknown>, readOnly = false): Promise<Client> {
  const [here, there] = InMemoryTransport.createLinkedPair();
  await agentServer(host(answers), readOnly).connect(there);
  const client = new Client({ name: "test", version: "1" });
  await client.connect(here);
  return client;
}

interface Answer {
  isError?: boolean;
  content: { text: string }[];
}
const call = async (client: Client, name: string, input: Record<string, unknown>): Promise<Answer> =>
  (await client.callTool({ name, arguments: input })) as unknown as Answer;

async function recipeFile(): Promise<string> {
  const file = path.join(folder, "x.reroute.json");
  const recipe = {
    schemaVersion: 1,
    teacher: "teacher",
    output: "out",
    data: { calibration: "text.jsonl" },
    compress: {},
  };
  await writeFile(file, JSON.stringify(recipe));
  return file;
}

it("offers every tool, and read-only none that starts work", async () => {
  const names = agentTools.map(({ name }) => name);
  expect((await (await connect()).listTools()).tools.map(({ name }) => name)).toEqual(names);
  const reading = (await (await connect({}, true)).listTools()).tools;
  expect(reading.map(({ name }) => name)).toEqual(names.filter((name) => name !== "start_run"));
  for (const { annotations } of reading) expect(annotations?.readOnlyHint).toBe(true);
});

it("inspects a checkpoint as the command line does", async () => {
  const { content } = await call(await connect(), "inspect_checkpoint", { path: goldenCheckpoint("qwen3_moe") });
  const summary = JSON.parse(content[0]!.text) as unknown;
  const signal = new AbortController().signal;
  const expected = await liveServices()["checkpoint/inspect"](
    { path: goldenCheckpoint("qwen3_moe") },
    { signal, emit: () => undefined },
  );
  expect(summary).toEqual(JSON.parse(JSON.stringify(expected)));
});

it.each([
  ["inspect_checkpoint", { path: "/no/such/checkpoint" }, /^checkpoint\/[a-z-]+: .*no\/such/],
  ["check_recipe", { recipe: "/no/such.reroute.json" }, /^recipe\/invalid: .*such\.reroute\.json/],
  ["run_status", { runDirectory: "/no/run" }, /^run\/invalid: .*no\/run/],
])("%s ends in a typed error", async (name, input, message) => {
  const { isError, content } = await call(await connect(), name, input);
  expect(isError).toBe(true);
  expect(content[0]!.text).toMatch(message);
});

it("starts what the pre-flight allows, and nothing that it refuses", async () => {
  const recipe = await recipeFile();
  const allowed = await connect({ "recipe/preflight": { refusals: [], seconds: 12 } });
  const { content } = await call(allowed, "start_run", { recipe });
  expect(JSON.parse(content[0]!.text)).toEqual({ runDirectory: path.join(folder, "run"), predictedSeconds: 12 });
  expect(started).toEqual([recipe]);
  const refusals = [{ code: "preflight/memory", message: "needs 9 GiB" }];
  const refused = await call(await connect({ "recipe/preflight": { refusals, seconds: 12 } }), "start_run", { recipe });
  expect(refused).toMatchObject({ isError: true, content: [{ text: "preflight/memory: needs 9 GiB" }] });
  expect(started).toEqual([]);
});

it("has no stages of a run that was just begun and is still checked", async () => {
  const client = await connect({ "recipe/preflight": { refusals: [], seconds: 12 } });
  const runDirectory = path.join(folder, "run");
  expect((await call(client, "run_status", { runDirectory })).isError).toBe(true);
  await call(client, "start_run", { recipe: await recipeFile() });
  const { content } = await call(client, "run_status", { runDirectory });
  expect(JSON.parse(content[0]!.text)).toEqual({ runDirectory, stages: [] });
});

it("panels come by layer, not by expert", async () => {
  const values = [0.1, 0.6, 0, 0.3, 0.25, 0.25, 0.25, 0.25];
  const layers = [0, 1].map((layer) => ({ layer, coefficientOfVariation: 1, normalisedEntropy: 1, neverUsed: 0 }));
  const routing = {
    ...{
      checkpoint: "c",
      tokens: 9,
      numExpertsPerToken: 2,
      numExperts: 4,
      layers: [0, 1],
      domains: [],
      neverUsed: [[0, 2]],
    },
    byDomain: { "": { tokens: 9, utilisation: { rows: 2, columns: 4, values }, layers } },
  };
  const client = await connect({ "panel/routing": routing });
  const { content } = await call(client, "read_panel", { runDirectory: "/r", panel: "routing" });
  const shown = JSON.parse(content[0]!.text) as { neverUsed: number; layers: { mostUsed: unknown }[] };
  expect(shown.neverUsed).toBe(1);
  expect(shown.layers[0]!.mostUsed).toEqual([1, 3, 0, 2].map((expert) => ({ expert, share: values[expert] })));
  expect(shown.layers[1]!.mostUsed).toEqual([0, 1, 2, 3].map((expert) => ({ expert, share: 0.25 })));
});

it("package.json contributes the same tools to language models", () => {
  const { contributes } = JSON.parse(readFileSync("package.json", "utf8")) as {
    contributes: { languageModelTools: unknown };
  };
  const expected = agentTools.map(({ name, title, description, input, starts }) => {
    const { $schema: _, additionalProperties: __, ...inputSchema } = z.toJSONSchema(input);
    return {
      name: `reroute_${name}`,
      displayName: title,
      modelDescription: description,
      toolReferenceName: name.replaceAll("_", "-"),
      canBeReferencedInPrompt: true,
      ...(starts ? { when: "isWorkspaceTrusted" } : {}),
      inputSchema,
    };
  });
  expect(contributes.languageModelTools).toEqual(expected);
});
