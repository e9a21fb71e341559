import path from "node:path";
import { describe, expect, test } from "vitest";
import { compressedTensors, type CompressedLayer } from "../../../src/engine/compression/layer/compressedTensors";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { predictionLayers } from "../../../src/engine/compression/plan/predictionLayers";
import { validatePlan } from "../../../src/engine/compression/plan/validatePlan";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import { readTensorBytes } from "../../../src/engine/checkpoint/read";
import type { OpenModel } from "../../../src/engine/run/work";
import type { PruningPlan } from "../../../src/protocol/plan";
import { compressOptions } from "../../../src/protocol/recipe";
import { withPredictionLayer } from "../../support/predictionLayer";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel } from "../../support/tinyModels";

const folder = temporaryFolder();
const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };

function handPlan({ description }: OpenModel, kept: number[], more: PruningPlan["layers"] = {}): PruningPlan {
  const layers = Object.fromEntries(moeLayers(description).map(({ layer }) => [String(layer), { kept }]));
  return { schemaVersion: 1, paradigm: "pruning", method: "manual", layers: { ...layers, ...more } };
}

async function bytesOf({ checkpoint }: OpenModel, name: string): Promise<Buffer> {
  return Buffer.from(await readTensorBytes(checkpoint.tensors.get(name)!));
}

/** Rows `kept` of a tensor whose first axis is the expert. */
async function rowsOf(model: OpenModel, name: string, kept: number[]): Promise<Buffer> {
  const bytes = await bytesOf(model, name);
  const rowBytes = bytes.length / model.checkpoint.tensors.get(name)!.shape[0]!;
  return Buffer.concat(kept.map((row) => bytes.subarray(row * rowBytes, (row + 1) * rowBytes)));
}

interface Row {
  family: string;
  /** Where the layer is, if not behind the decoder's. */
  at?: string;
  numExperts: number;
  /** Of the decoder's layers; where the router picks two of four groups, two of every group. */
  kept: number[];
  /** Of the prediction layer, where the plan names some. */
  explicit: number[];
  /** Fewer experts than the decoder's layers keep. */
  fewer: number[];
}
const rows: Row[] = [
  {
    family: "deepseek_v3",
    numExperts: 16,
    kept: [0, 3, 5, 6, 8, 9, 14, 15],
    explicit: [1, 2, 4, 5, 9, 10, 12, 13],
    fewer: [0, 1, 4, 5, 8, 9, 12],
  },
  { family: "glm4_moe", numExperts: 8, kept: [0, 3, 5, 6], explicit: [1, 2, 4, 7], fewer: [0, 1, 2] },
  {
    family: "qwen3_next",
    at: "mtp.layers.0",
    numExperts: 8,
    kept: [0, 3, 5, 6],
    explicit: [1, 2, 4, 7],
    fewer: [0, 1, 2],
  },
];

describe.each(rows)("the multi-token-prediction layer of $family", (row) => {
  const { family, at, numExperts, kept, explicit, fewer } = row;
  const open = () => withPredictionLayer(family, folder, at === undefined ? {} : { at });
  const placeOf = ({ description }: OpenModel) => at ?? `model.layers.${description.layers.length}`;

  test.each([
    ["the ids of the last sparse layer", null, kept],
    ["the ids that the plan names for it", explicit, explicit],
  ])("keeps %s", async (title, own, expected) => {
    const model = await open();
    const mtp = model.description.layers.length;
    expect(predictionLayers(model.description).map(({ layer }) => layer)).toEqual([mtp]);
    expect(moeLayers(model.description)[0]!.moe.numExperts).toBe(numExperts);
    const directory = path.join(folder, `${family}-${title.length}`);
    await writeCompressedCheckpoint({
      ...model,
      plan: handPlan(model, kept, own ? { [String(mtp)]: { kept: own } } : {}),
      directory,
      provenance,
    });
    const student = await openModel(directory);
    const place = placeOf(model);
    const prefix = `${place}.mlp`;
    const routers = [...model.checkpoint.tensors.keys()].filter((name) => name.startsWith(`${prefix}.gate.`));
    expect(routers).toContain(`${prefix}.gate.weight`);
    for (const name of routers) {
      expect(student.checkpoint.tensors.get(name)!.shape[0]).toBe(expected.length);
      expect(await bytesOf(student, name)).toEqual(await rowsOf(model, name, expected));
    }
    for (const [position, id] of expected.entries()) {
      for (const part of ["gate_proj", "up_proj", "down_proj"]) {
        expect(await bytesOf(student, `${prefix}.experts.${position}.${part}.weight`)).toEqual(
          await bytesOf(model, `${prefix}.experts.${id}.${part}.weight`),
        );
      }
    }
    expect(student.checkpoint.tensors.has(`${prefix}.experts.${expected.length}.gate_proj.weight`)).toBe(false);
    const untouched = [...model.checkpoint.tensors.keys()].filter(
      (name) => name.startsWith(`${place}.`) && !/\.mlp\.(experts|gate)\./.test(name),
    );
    expect(untouched.length).toBeGreaterThan(8);
    for (const name of untouched) expect(await bytesOf(student, name)).toEqual(await bytesOf(model, name));
    const { config } = student.checkpoint;
    expect(config["n_routed_experts"] ?? config["num_experts"]).toBe(expected.length);
  });

  test("a plan with another number of experts there, or with a layer that is none, is refused", async () => {
    const model = await open();
    const mtp = String(model.description.layers.length);
    const check = (plan: PruningPlan) => () => {
      validatePlan(plan, model.description, model.fingerprint);
    };
    expect(check(handPlan(model, kept, { [mtp]: { kept: explicit } }))).not.toThrow();
    expect(check(handPlan(model, kept, { [mtp]: { kept: fewer } }))).toThrow(
      /config.json holds one number|every group/,
    );
    expect(check(handPlan(model, kept, { "9": { kept } }))).toThrow(/layer 9, which is no MoE layer/);
  });

  test("a made plan says what becomes of it", async () => {
    const model = await open();
    const options = compressOptions.parse({ method: "random", keep: 0.5 });
    const plan = makePruningPlan({ ...model, options, seed: 1, statistics: null, weightScores: null });
    const mtp = model.description.layers.length;
    expect(plan.notes).toEqual([
      `${at ?? `layer ${mtp}`} predicts further tokens and is not part of the forward pass: it keeps the same expert ids as layer ${mtp - 1}`,
    ]);
  });

  test("folded routers: it keeps the dominant ids of the last sparse layer, unmerged", async () => {
    const model = await open();
    const prefix = `${placeOf(model)}.mlp`;
    const layers = new Map<number, CompressedLayer>(
      moeLayers(model.description).map(({ layer }) => [
        layer,
        {
          outcome: {
            experts: kept.map((source) => ({ source, stagedAs: null })),
            routerRows: kept,
            logicalToPhysical: null,
          },
          staged: new Map(),
        },
      ]),
    );
    const sources = compressedTensors(model.checkpoint, model.family, model.description, layers);
    const shapes = new Map(sources.map(({ name, shape }) => [name, shape]));
    expect(shapes.get(`${prefix}.gate.weight`)).toEqual([kept.length, 32]);
    const bias = `${prefix}.gate.e_score_correction_bias`;
    expect(shapes.get(bias)).toEqual(model.checkpoint.tensors.has(bias) ? [kept.length] : undefined);
    const experts = [...shapes.keys()].filter((name) => name.startsWith(`${prefix}.experts.`));
    expect(experts.length).toBe(kept.length * 3);
    const first = sources.find(({ name }) => name === `${prefix}.experts.1.up_proj.weight`)!;
    expect(first.parts).toMatchObject([{ entry: { name: `${prefix}.experts.3.up_proj.weight` } }]);
  });
});

test("a prediction layer with stacked experts beside a decoder with one tensor an expert loses the same ones", async () => {
  const model = await withPredictionLayer("qwen3_next", folder, { at: "mtp.layers.0", stacked: true });
  const kept = [1, 2, 6, 7];
  const directory = path.join(folder, "stacked");
  await writeCompressedCheckpoint({ ...model, plan: handPlan(model, kept), directory, provenance });
  const student = await openModel(directory);
  for (const name of ["gate.weight", "experts.gate_up_proj", "experts.down_proj"].map(
    (one) => `mtp.layers.0.mlp.${one}`,
  )) {
    expect(student.checkpoint.tensors.get(name)!.shape[0]).toBe(kept.length);
    expect(await bytesOf(student, name)).toEqual(await rowsOf(model, name, kept));
  }
});
