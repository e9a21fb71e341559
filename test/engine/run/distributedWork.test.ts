import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { machinery } from "../../../src/engine/pipeline";
import { startRun } from "../../../src/engine/run/startRun";
import { inProcessCarrier, type Carrier } from "../../../src/engine/run/tiles/carrier";
import { distributedWork } from "../../../src/engine/run/tiles/distributedWork";
import { TileRunner } from "../../../src/engine/run/tiles/runTile";
import type { Tile } from "../../../src/engine/run/tiles/tile";
import { inHand } from "../../../src/engine/run/tiles/tileBounds";
import { createRandom } from "../../../src/engine/tensor/random";
import { TinyRun } from "../../faults/tinyRun";
import type { EvaluationFile } from "../../../src/protocol/evaluation";
import { daily } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";

/** Workers in this process, in turn, with other machines' threads and memory, that take tiles in another order. */
function unevenCarrier(scratchDirectory: string): { carrier: Carrier; did: Tile[] } {
  const random = createRandom(3);
  const { signal } = new AbortController();
  const runner = (threads: number, memoryBudgetBytes: number) =>
    new TileRunner({
      ...{ worker: `w${threads}`, scratchDirectory, signal, mapPath: (at: string) => at },
      runtime: { threads, provider: "cpu", memoryBudgetBytes },
    });
  const carriers = [runner(1, 4e9), runner(2, 7e8)].map((one) => inProcessCarrier(one, "0".repeat(64)));
  const did: Tile[] = [];
  const waiting: (() => void)[] = [];
  return {
    did,
    carrier: {
      ...carriers[0]!,
      carry: async (tile, store, stop) => {
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
          setImmediate(() => waiting.splice(random.below(waiting.length), 1)[0]?.());
        });
        did.push(tile);
        return carriers[did.length % 2]!.carry(tile, store, stop);
      },
      close: async () => {
        for (const one of carriers) await one.close();
      },
    },
  };
}

const calibrate = { batch: 4, learningRate: 5e-3, heldOut: 0.3, evaluateEvery: 2 };

/** What is spread, by what a recipe asks for. */
const rows: Record<string, { recipe: Record<string, unknown>; passes: readonly string[]; layerParts?: number }> = {
  "the teacher by parts of its layers": {
    recipe: { calibrate: { ...calibrate, teacherRouting: { kind: "augment", lambda: 0.3, draws: 2 } } },
    passes: ["cosines", "evaluate", "gradient", "held-out", "profile", "targets"],
    layerParts: 2,
  },
  "pruning and Router KD": {
    recipe: { calibrate: { ...calibrate, batch: 128 }, data: { sequences: 700 } },
    passes: ["cosines", "evaluate", "gradient", "held-out", "profile", "targets"],
  },
  "merging by activations": {
    recipe: { compress: { method: "hc-smoe", keep: 0.5 } },
    passes: ["compress", "cosines", "evaluate", "profile"],
  },
  "factors of weights": {
    recipe: { compress: { method: "svd", keep: 0.6 } },
    passes: ["compress", "cosines", "evaluate", "profile"],
  },
  "draws of the teacher's experts": {
    recipe: { calibrate: { ...calibrate, teacherRouting: { kind: "augment", lambda: 0.3, draws: 2 } } },
    passes: ["cosines", "evaluate", "gradient", "held-out", "profile", "targets"],
  },
  "the teacher by more parts than it has layers": {
    recipe: { calibrate },
    passes: ["cosines", "evaluate", "gradient", "held-out", "profile", "targets"],
    layerParts: 5,
  },
  "a wider scope": {
    recipe: { calibrate: { ...calibrate, scope: "router+experts" } },
    passes: ["cosines", "evaluate", "profile", "targets"],
  },
  "merging by a profile": {
    recipe: { compress: { method: "m-smoe", keep: 0.5 } },
    passes: ["compress", "cosines", "evaluate", "profile"],
  },
  "second-order quantisation": {
    recipe: { compress: { method: "gptq", options: { group: 8, sequential: false } } },
    passes: ["compress", "cosines", "evaluate", "profile"],
  },
};

describe("a run by tiles in any order, on machines of other sizes, has the bytes of one alone", () => {
  const parent = temporaryFolder();
  beforeAll(() => TinyRun.makeParent(parent));

  it.each(daily(3, Object.keys(rows)))(
    "%s",
    async (name) => {
      const { recipe, passes, layerParts = 1 } = rows[name]!;
      const { data: moreData, ...more } = recipe;
      const data = {
        ...{ calibration: "../calibration.jsonl", evaluation: "../evaluation.jsonl" },
        ...{ sequences: 12, evaluationSequences: 400, sequenceLength: 24, ...(moreData as object) },
      };
      const run = new TinyRun("", parent, { calibrate: undefined, ...more, data });
      const hooks = { signal: new AbortController().signal };
      await startRun(machinery, run.request(), hooks);
      const expected = run.results();
      run.reset();
      const scratch = path.join(parent, "scratch");
      mkdirSync(scratch, { recursive: true });
      const { carrier, did } = unevenCarrier(scratch);
      const quiet = { asked: () => undefined, done: () => undefined, dropped: () => undefined };
      const work = distributedWork(machinery.work, carrier, quiet, run.runDirectory, layerParts);
      await startRun({ ...machinery, work }, run.request(), hooks);
      await carrier.close();
      const results = run.results();
      for (const file of Object.keys(expected)) expect(results[file] === expected[file], file).toBe(true);
      expect(Object.keys(results)).toEqual(Object.keys(expected));
      const cut = did.flatMap((tile) => ("layers" in tile && tile.layers ? [{ ...tile.layers, kind: tile.kind }] : []));
      const places = new Set(cut.map(({ kind, from, to }) => `${kind} ${from} to ${to}`));
      const kinds = layerParts > 1 ? ["evaluate", "evaluate-teacher", "profile", "targets"] : [];
      expect(places).toEqual(new Set(kinds.flatMap((kind) => [`${kind} 0 to 1`, `${kind} 1 to 2`])));
      expect([...new Set(did.map((tile) => inHand(tile).pass))].sort()).toEqual(passes);
      rmSync(scratch, { recursive: true });
    },
    120_000,
  );

  it("evaluates a student once that its calibration leaves as it was", async () => {
    // So large that no update is better than none.
    const run = new TinyRun("", parent, { calibrate: { ...calibrate, learningRate: 50 } });
    const scratch = temporaryFolder();
    const { carrier, did } = unevenCarrier(scratch);
    const quiet = { asked: () => undefined, done: () => undefined, dropped: () => undefined };
    const work = distributedWork(machinery.work, carrier, quiet, run.runDirectory);
    await startRun({ ...machinery, work }, run.request(), { signal: new AbortController().signal });
    await carrier.close();
    const { before, after } = JSON.parse(run.results()["evaluation.json"]!) as EvaluationFile;
    expect(after!.klToTeacher).toBe(before!.klToTeacher);
    expect(did.filter(({ kind }) => kind === "evaluate")).toHaveLength(1);
    expect(new Set(did.map(({ key }) => key)).size).toBe(did.length);
  });
});
