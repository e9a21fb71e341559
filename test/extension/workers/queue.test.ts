/** The queue of the settings, its password, and what is said of the workers at it. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { english } from "../../../src/protocol/translate";
import type { QueueStatus, WorkerStatus } from "../../../src/protocol/workers";
import { queueAddress } from "../../../src/engine/run/queue/queueAddress";
import { lostWorkers } from "../../../src/extension/workers/lostWorkers";
import { queueChoice, setQueuePassword, workerFolders } from "../../../src/extension/workers/queueChoice";
import { layerLines, queueLines, spreadLines } from "../../../src/extension/workers/queueLines";
import { withPassword } from "../../../src/extension/workers/queueUrl";
import { hostNodes, summaryOf, workerFacts } from "../../../src/extension/workers/workerFacts";
import { temporaryFolder } from "../../support/temporaryFolder";

const editor = vi.hoisted((): { settings: Record<string, unknown>; answer?: string } => ({ settings: {} }));
vi.mock("vscode", () => ({
  Uri: { file: (fsPath: string) => ({ scheme: "file", fsPath }) },
  l10n: { t: (text: string) => text },
  window: { showInputBox: () => Promise.resolve(editor.answer) },
  workspace: {
    workspaceFolders: [{ uri: { scheme: "file", fsPath: "/space" } }],
    getWorkspaceFolder: () => undefined,
    getConfiguration: () => ({ get: (key: string, otherwise: unknown) => editor.settings[key] ?? otherwise }),
  },
}));

const secrets = () => {
  const kept = new Map<string, string>();
  return {
    kept,
    context: {
      globalStorageUri: { fsPath: "/storage" },
      secrets: {
        get: (key: string) => Promise.resolve(kept.get(key)),
        store: (key: string, value: string) => Promise.resolve(void kept.set(key, value)),
        delete: (key: string) => Promise.resolve(void kept.delete(key)),
      },
    } as unknown as Parameters<typeof setQueuePassword>[0] & Parameters<typeof workerFolders>[0],
  };
};
beforeEach(() => {
  editor.settings = { queue: "rediss://ada@redis.lab:6380" };
});

describe("the queue's password", () => {
  it.each(["plain", "p%41$@:/? #\"'", "ü𝄞", "%"])("%s arrives as it was entered", async (password) => {
    const { context, kept } = secrets();
    editor.answer = password;
    await setQueuePassword(context);
    expect(kept.size).toBe(1);
    const choice = await queueChoice(context);
    expect(queueAddress(choice!.url, false).connection).toMatchObject({
      ...{ host: "redis.lab", port: 6380, username: "ada", password },
    });
    editor.answer = "";
    await setQueuePassword(context);
    expect(kept.size).toBe(0);
  });

  it("is given to no other queue, which a workspace could name", async () => {
    const { context } = secrets();
    editor.answer = "secret";
    await setQueuePassword(context);
    editor.settings["queue"] = "rediss://ada@elsewhere:6380";
    expect((await queueChoice(context))!.url).toBe("rediss://ada@elsewhere:6380");
  });

  it("is refused in the setting, without being repeated", async () => {
    const { context } = secrets();
    editor.settings["queue"] = "rediss://ada:hunter2@redis.lab";
    const refused = await queueChoice(context).catch((error: unknown) => error as Error);
    expect(refused).toMatchObject({
      code: "arguments/invalid",
      message: expect.stringContaining("Set Queue Password") as string,
    });
    expect((refused as Error).message).not.toContain("hunter2");
    for (const wrong of ["redis.lab:6379", "http://redis.lab", "redis://", "rediss//x"])
      expect(() => withPassword(wrong, "x")).toThrow(/is no URL of a queue/);
  });
});

it("settings that name no queue leave runs to this machine; local workers, layer parts and the forced speech go along", async () => {
  const { context } = secrets();
  Object.assign(editor.settings, { localWorkers: 0, allowInsecureQueue: true, layerParts: 4 });
  expect(await queueChoice(context)).toEqual({
    ...{ url: "rediss://ada@redis.lab:6380", localWorkers: 0, insecure: true, layerParts: 4 },
  });
  for (const wrong of [0, -1, 2.5, "2"]) {
    editor.settings["layerParts"] = wrong;
    expect(await queueChoice(context), String(wrong)).not.toHaveProperty("layerParts");
  }
  editor.settings = { queue: "  " };
  expect(await queueChoice(context)).toBeNull();
});

it("folders of workers elsewhere are the setting's, else the workspace's, and that of runs where it lies outside", () => {
  const { context } = secrets();
  editor.settings["workerFolders"] = ["/data=/mnt/data", "", 3];
  expect(workerFolders(context)).toEqual(["/data=/mnt/data"]);
  editor.settings["workerFolders"] = "no list";
  expect(workerFolders(context)).toEqual(["/space"]);
  editor.settings["runFolder"] = "/big/runs";
  expect(workerFolders(context)).toEqual(["/space", "/big/runs"]);
});

const worker = (name: string, more: Partial<WorkerStatus> = {}): WorkerStatus => ({
  ...{ name, host: "node-1", threads: 8, memoryBytes: 2 ** 36, numerics: "0123456789ab", about: "cpu" },
  ...{ eligible: true, reason: null, state: "idle", tile: null, since: "2026-01-01T00:00:00Z" },
  ...{ tiles: 3, repeated: 0, tokensPerSecond: null, ...more },
});
const working = worker("w", {
  state: "working",
  tile: { pass: "profile", bounds: { unit: "sequences", from: 64, to: 128 } },
  tokensPerSecond: 1160,
});
const other = worker("o", { eligible: false, reason: "other bits" });

it("layer parts are proposed before a run whose workers would read the checkpoint again for each tile", () => {
  const preflight = {
    ...{ bytesBefore: 61e9, memoryBudgetBytes: 48e9 },
    stages: [
      {
        ...{ stage: "profile" as const, seconds: 9800, peakMemoryBytes: 6e9, assumption: "" },
        spread: [{ seconds: 9729, parts: 47, limit: "" }],
      },
    ],
  };
  const there = { workers: [worker("a", { memoryBytes: 48e9 })] };
  const [line, ...more] = layerLines(preflight, there, {}, english);
  expect(more).toEqual([]);
  expect(line).toMatchObject({ kind: "warning" });
  expect(line!.description).toContain("Set reroute.layerParts to 2");
  expect(layerLines(preflight, there, { layerParts: 2 }, english)).toEqual([]);
  expect(layerLines(preflight, there, { localWorkers: 0 }, english)).toEqual([]);
});

it.each([
  [worker("a"), "idle · node-1 · 8 threads", "circle-outline"],
  [working, "works on profile, sequences 64 to 128 · 1.16 k tokens/s · node-1 · 8 threads", "sync"],
  [other, "not eligible: other bits · node-1 · 8 threads", "warning"],
  [worker("l", { state: "lost" }), "lost · node-1 · 8 threads", "debug-disconnect"],
  [worker("p", { layers: "2/4" }), "idle · node-1 · 8 threads · keeps to layers 2/4", "circle-outline"],
])("a row says what a worker does %#", (of, description, icon) => {
  expect(workerFacts(of, english)).toMatchObject({ description, icon });
});

it("many workers are read by host, in the order of their numbers", () => {
  const many = Array.from({ length: 300 }, (_, i) => worker(`w${i}`, { host: `node-${i % 12}` }));
  expect(hostNodes(many.slice(0, 30))).toBeNull();
  expect(hostNodes(many)!.map(({ host, workers }) => [host, workers.length])).toEqual(
    Array.from({ length: 12 }, (_, i) => [`node-${i}`, 25]),
  );
  expect(summaryOf([working, other, worker("l", { state: "lost" })], english)).toBe(
    "3 workers, 1 working, 1 lost, 1 not eligible, 1.16 k tokens/s",
  );
});

describe("a pre-flight", () => {
  const status = (more: Partial<QueueStatus>) => ({ queue: "redis://127.0.0.1", checks: [], workers: [], ...more });
  const lines = (more: Partial<QueueStatus>, localWorkers?: number) =>
    queueLines(status(more), localWorkers === undefined ? {} : { localWorkers }, english);

  it("names the workers, and those that get nothing", () => {
    expect(lines({ workers: [working, worker("a"), other] }, 2)).toEqual([
      {
        kind: "fact",
        label: "Workers",
        description: "2 eligible at redis://127.0.0.1, 16 threads; 2 are started on this machine",
      },
      { kind: "warning", label: "Warning", description: "The worker o gets nothing of this run: other bits" },
    ]);
    const many = lines({ workers: Array.from({ length: 9 }, () => other) });
    expect(many).toHaveLength(5);
    expect(many[4]!.description).toBe("6 more workers get nothing of this run");
  });

  it("says where nobody would work, and refuses what cannot be reached", () => {
    expect(lines({}, 0)[1]!.description).toContain("the run waits");
    expect(lines({})).toHaveLength(1);
    const check = { name: "Queue", state: "problem", detail: "no answer", code: "queue/unavailable" } as const;
    expect(lines({ checks: [check] })).toEqual([
      {
        ...{ kind: "refusal", label: "Cannot start" },
        ...{ description: "no answer (queue/unavailable)", code: "queue/unavailable" },
      },
    ]);
  });
});

it("workers that a run has lost are known from its folder, until they are back", async () => {
  const folder = temporaryFolder();
  const runs = ["a", "broken", "missing"].map((name) => ({ runDirectory: path.join(folder, name) }));
  for (const name of ["a", "broken"]) mkdirSync(path.join(folder, name));
  const workers = [worker("l", { state: "lost" }), worker("back", { state: "lost" }), working];
  const file = { schemaVersion: 1, at: "", running: true, queue: "", numerics: "", about: "", workers, passes: [] };
  writeFileSync(path.join(folder, "a", "workers.json"), JSON.stringify(file));
  writeFileSync(path.join(folder, "broken", "workers.json"), JSON.stringify(file).slice(0, 90));
  expect((await lostWorkers(runs, [{ name: "back" }])).map(({ name }) => name)).toEqual(["l"]);
});

it("a pre-flight says what more workers would bring, and what they would not", () => {
  const spread = [{ seconds: 80, parts: 8, limit: "an update's batch of 8 is cut into 8" }];
  const of = { peakMemoryBytes: 0, assumption: "" };
  const stages = [
    { ...of, stage: "calibrate" as const, seconds: 100, spread },
    { ...of, stage: "report" as const, seconds: 1 },
  ];
  expect(spreadLines({ stages }, english).map(({ label, description }) => [label, description])).toEqual([
    ["Workers like this machine, at best", "1: 1 min 41 s · 2: 1 min 01 s · 4: 41 s · 8: 31 s"],
    [
      "What more do not shorten",
      "calibrate 96.8 %: this machine does most of it alone; an update's batch of 8 is cut into 8",
    ],
  ]);
  expect(spreadLines({ stages: stages.slice(1) }, english)).toEqual([]);
});
