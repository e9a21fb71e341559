import { readFile, readdir, stat } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import type { CompressOptions } from "../../../src/protocol/recipe";
import { compress, goldens, makeContext, scratch, openModel } from "./support";

const { fresh } = scratch();

const rows: [CompressOptions["method"], CompressOptions["options"]][] = [
  ["hc-smoe", {}],
  ["ream", {}],
  ["svd-llm", {}],
  ["mobe", { steps: 20, output: "factored" }],
];
it.each(rows)("%s: cancelled after a layer, goes on with the next, to the same bytes", async (method, options) => {
  const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
  const context = await makeContext(model, fresh(), { method, keep: 0.625, options });
  const plan = await makePlan({ ...context, stateDirectory: fresh() });
  const abort = new AbortController();
  const cancelled = applyPlan(
    {
      ...context,
      signal: abort.signal,
      report: ({ message }) => {
        if (message.startsWith("Looking")) abort.abort();
      },
    },
    plan,
  );
  await expect(cancelled).rejects.toMatchObject({ code: "cancelled" });
  const first = path.join(context.stateDirectory, "layer-0.safetensors");
  const before = await stat(first);
  expect((await readdir(context.stateDirectory)).filter((name) => name.endsWith(".json"))).toEqual(["layer-0.json"]);
  const [resumed, undisturbed] = [fresh(), fresh()];
  await compress(context, plan, resumed);
  expect((await stat(first)).mtimeMs).toBe(before.mtimeMs);
  await compress({ ...context, stateDirectory: fresh() }, plan, undisturbed);
  for (const name of await readdir(undisturbed)) {
    expect((await readFile(path.join(resumed, name))).equals(await readFile(path.join(undisturbed, name)))).toBe(true);
  }
  // Other inputs are never taken for these.
  const other = { ...plan, seed: 7, options: { ...plan.options, sequences: 1 } };
  if (method !== "mobe") {
    await applyPlan(context, other);
    expect((await stat(first)).mtimeMs).not.toBe(before.mtimeMs);
  }
});

it("MoBE goes on in the middle of a projection, keeps finished ones, and leaves no state behind", async () => {
  const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
  const context = await makeContext(model, fresh(), { method: "mobe", keep: 0.625, options: { steps: 700 } });
  const plan = await makePlan(context);
  const runUntil = async (stop: (message: string, done: number) => boolean) => {
    const abort = new AbortController();
    const seen: string[] = [];
    const report = ({ message, done }: { message: string; done: number }) => {
      if (!message.startsWith("MoBE")) return;
      seen.push(`${message} ${done}`);
      if (stop(message, done)) abort.abort();
    };
    await applyPlan({ ...context, signal: abort.signal, report }, plan).catch((error: unknown) => {
      expect(error).toMatchObject({ code: "cancelled" });
    });
    return seen;
  };
  const states = async () => (await readdir(context.stateDirectory)).filter((name) => name.startsWith("mobe-"));
  const first = await runUntil((message, done) => message.includes("gateProj of layer 0") && done === 600);
  expect(first.at(-1)).toBe("MoBE: gateProj of layer 0 600");
  expect(await states()).toEqual(["mobe-0-gateProj.safetensors"]);
  const second = await runUntil((message, done) => message.includes("upProj of layer 0") && done === 550);
  expect(second[0]).toBe("MoBE: gateProj of layer 0 500");
  expect((await states()).sort()).toEqual(["mobe-0-gateProj.safetensors", "mobe-0-upProj.safetensors"]);
  const third = await runUntil(() => false);
  expect(third[0]).toBe("MoBE: upProj of layer 0 500");
  expect(await states()).toEqual([]);
  const [resumed, undisturbed] = [fresh(), fresh()];
  await compress(context, plan, resumed);
  await compress({ ...context, stateDirectory: fresh() }, plan, undisturbed);
  for (const name of await readdir(undisturbed)) {
    expect((await readFile(path.join(resumed, name))).equals(await readFile(path.join(undisturbed, name)))).toBe(true);
  }
});
