import { readdirSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PruningPlan } from "../../../src/protocol/plan";
import type { TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readSafetensorsFile } from "../../../src/engine/checkpoint/safetensorsFile";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { aimerScores } from "../../../src/engine/compression/pruning/aimer";
import { copySlices } from "../../../src/engine/compression/pruning/pruneTensors";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import { describeModel } from "../../../src/engine/model/families";
import { readFloat32, readTensorBytes } from "../../../src/engine/checkpoint/read";

const goldens = path.join(__dirname, "../../fixtures/goldens");
let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prune-"));
});
afterAll(() => rm(folder, { recursive: true }));

const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };

/** The kept experts that the golden's student has. */
async function goldenPlan(family: string): Promise<PruningPlan> {
  const { tensors } = await readSafetensorsFile(path.join(goldens, family, "golden.safetensors"));
  const layers: PruningPlan["layers"] = {};
  for (const [name, { data }] of tensors) {
    if (!name.startsWith("kept.")) continue;
    layers[name.slice(5)] = { kept: Array.from(new BigInt64Array(new Uint8Array(data).buffer), Number) };
  }
  return { schemaVersion: 1, paradigm: "pruning", method: "manual", layers };
}

async function prune(family: string, name: string) {
  const checkpoint = await openCheckpoint(path.join(goldens, family, "checkpoint"));
  const directory = path.join(folder, name);
  const plan = await goldenPlan(family);
  await writeCompressedCheckpoint({
    checkpoint,
    ...describeModel(checkpoint),
    fingerprint: "f",
    plan,
    directory,
    provenance,
  });
  return { checkpoint, plan, directory, student: await openCheckpoint(directory) };
}

/** All families with a golden: separate and fused experts, biases, correction biases, quantised layouts apart. */
const families = readdirSync(goldens).filter((name) => !name.includes("."));

/** The same numbers, to the bit. */
const equal = (a: Float32Array, b: Float32Array) =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

describe.each(families)("hand plan applied to %s", (family) => {
  let pruned: Awaited<ReturnType<typeof prune>>;
  beforeAll(async () => {
    pruned = await prune(family, family);
  });

  it("keeps the bytes of kept experts and router rows, and of everything else", async () => {
    const { checkpoint, plan, student } = pruned;
    const { description } = describeModel(checkpoint);
    const written = describeModel(student).description;
    const seen = new Set<string>();
    const bytesOf = async (entry: TensorEntry | undefined) =>
      Buffer.from(await readTensorBytes(entry!)).toString("hex");
    for (const { layer, moe } of moeLayers(description)) {
      const { kept } = plan.layers[String(layer)]!;
      const after = moeLayers(written).find((l) => l.layer === layer)!.moe;
      expect(after.numExperts).toBe(kept.length);
      const views = (m: typeof moe, e: number) => {
        const { gateUp, downProj } = m.experts[e]!;
        return [...(gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj] : [gateUp.projection]), downProj].map(
          (l) => l.weight,
        );
      };
      for (const [position, id] of kept.entries()) {
        for (const [i, from] of views(moe, id).entries()) {
          const to = views(after, position)[i]!;
          seen.add(to.tensor);
          const read = (c: typeof checkpoint, v: typeof from) =>
            readFloat32(c.tensors.get(v.tensor)!, { offset: v.offset, count: v.shape.reduce((p, s) => p * s, 1) });
          expect(equal(await read(student, to), await read(checkpoint, from)), to.tensor).toBe(true);
        }
      }
      const router = moe.router.weight;
      const rows = await readFloat32(checkpoint.tensors.get(router.tensor)!);
      const width = router.shape[1]!;
      const expected = kept.flatMap((e) => [...rows.subarray(e * width, (e + 1) * width)]);
      expect([...(await readFloat32(student.tensors.get(router.tensor)!))]).toEqual(expected);
      seen.add(router.tensor);
    }
    const others = [...student.tensors.keys()].filter((name) => !seen.has(name));
    expect(others.length).toBeGreaterThan(5);
    for (const name of others) {
      const [from, to] = [checkpoint.tensors.get(name)!, student.tensors.get(name)!];
      if (to.shape.join() === from.shape.join()) expect(await bytesOf(to)).toBe(await bytesOf(from));
      else {
        // A bias with one entry for each expert: entries of the axis that became shorter.
        const { kept } = plan.layers[/layers\.(\d+)\./.exec(name)![1]!]!;
        const axis = from.shape.findIndex((size, i) => size !== to.shape[i]);
        const inner = from.shape.slice(axis + 1).reduce((p, n) => p * n, 1);
        const expected = [...(await readFloat32(from))].filter((_, i) =>
          kept.includes(Math.floor(i / inner) % from.shape[axis]!),
        );
        expect([...(await readFloat32(to))]).toEqual(expected);
      }
    }
  });

  // In shards: writeBack.test.ts, for every family.
  it("gives the same bytes again", async () => {
    const again = await prune(family, `${family}-again`);
    for (const name of await readdir(pruned.directory)) {
      const [second, first] = [again, pruned].map(({ directory }) => readFile(path.join(directory, name)));
      expect((await second!).equals(await first!), name).toBe(true);
    }
  });
});

describe("slices along other axes", () => {
  it("takes columns of a [2, 4] tensor of int64", async () => {
    const { tensors } = await openCheckpoint(path.join(goldens, "mixtral/checkpoint"));
    const any = [...tensors.values()][0]!;
    const entry: TensorEntry = { ...any, dtype: "I64", shape: [2, 4], byteLength: 64 };
    const source = copySlices(entry, [1, 3], 1);
    expect(source.shape).toEqual([2, 2]);
    expect(source.parts.map((p) => p.kind === "copy" && [p.byteOffset, p.byteLength])).toEqual([
      [8, 8],
      [24, 8],
      [40, 8],
      [56, 8],
    ]);
    expect(() => copySlices(entry, [4], 1)).toThrow(/axis 1/);
  });
});

describe("aimer", () => {
  it("equals mean|w| / rms over whole tensors", async () => {
    const checkpoint = await openCheckpoint(path.join(goldens, "qwen3_moe/checkpoint"));
    const { description } = describeModel(checkpoint);
    const scores = await aimerScores(checkpoint, description);
    for (const { layer, moe } of moeLayers(description)) {
      expect(scores.get(layer)!.length).toBe(moe.numExperts);
    }
    const { layer } = moeLayers(description)[0]!;
    const expert = 3;
    const names = [...checkpoint.tensors.keys()].filter((n) =>
      n.startsWith(`model.layers.${layer}.mlp.experts.${expert}.`),
    );
    expect(names.length).toBe(3);
    const values = (await Promise.all(names.map((n) => readFloat32(checkpoint.tensors.get(n)!)))).flatMap((v) => [
      ...v,
    ]);
    const meanAbsolute = values.reduce((sum, w) => sum + Math.abs(w), 0) / values.length;
    const rms = Math.sqrt(values.reduce((sum, w) => sum + w * w, 0) / values.length);
    expect(scores.get(layer)![expert]).toBeCloseTo(meanAbsolute / rms, 12);
  });
});
