import { beforeAll, describe, expect, test } from "vitest";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import type { CalibrationOptions } from "../../../src/engine/distillation/calibration";
import { KeyedDraws, teacherRoutes } from "../../../src/engine/distillation/teacherRouting";
import { withActiveExperts } from "../../../src/engine/model/activeExperts";
import type { MoeDescription } from "../../../src/engine/model/description";
import type { OpenModel } from "../../../src/engine/run/work";
import type { MetricsLine } from "../../../src/protocol/metrics";
import { calibrateOptions, type TeacherRouting } from "../../../src/protocol/calibrateOptions";
import { openStudent, openTeacher } from "../../support/distillationGoldens";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const training = randomSequences(1, 6, 10, { lengths: [10, 7, 10, 10, 4, 10] });
const heldOut = randomSequences(2, 2, 10);
let teacher: OpenModel;
let student: OpenModel;

beforeAll(async () => {
  [teacher, student] = [await openTeacher("olmoe"), await openStudent("olmoe")];
});

interface Trained {
  parameters: Record<string, number[]>;
  lines: MetricsLine[];
}

/** Three updates of the dense student; of each metrics line, everything but times. */
async function train(
  teacherRouting: TeacherRouting | undefined,
  change: Partial<CalibrationOptions> = {},
): Promise<Trained> {
  const lines: MetricsLine[] = [];
  const options = calibrateOptions.parse({
    ...{ batch: 2, learningRate: 1e-2, evaluateEvery: 2, keepStep: "last", scope: "feed-forward" },
    ...{ divergence: "reverse", teacherRouting },
  });
  const { parameters } = await calibrate({
    ...{ student, teacher, training, heldOut, options, seed: 7, runtime, stateDirectory: temporaryFolder() },
    onMetrics: (line) =>
      void lines.push("seconds" in line ? { ...line, seconds: 0, teacherSeconds: 0, writingSeconds: 0 } : line),
    ...change,
  });
  return { parameters: Object.fromEntries([...parameters].map(([key, values]) => [key, [...values]])), lines };
}

const k = 2;
const all = 8;

describe("a dense student learns", () => {
  test("from k active experts as from the teacher's own routing, and with lambda 0 as from all but one", async () => {
    const own = await train(undefined);
    expect(own.lines.filter(({ kind }) => kind === "update")).toHaveLength(3);
    expect(await train({ kind: "active", active: k })).toEqual(own);
    const plain = await train({ kind: "active", active: all - 1 });
    expect(plain.parameters).not.toEqual(own.parameters);
    expect(await train({ kind: "augment", lambda: 0, draws: 1 })).toEqual(plain);
    // Without sampling, draws are all the same: so many passes as one.
    expect(await train({ kind: "augment", lambda: 0, draws: 4 })).toEqual(plain);
    const drawn = await train({ kind: "augment", lambda: 1, draws: 2, active: k });
    expect(drawn.parameters).not.toEqual(own.parameters);
  });

  test("in rounds of one update as in longer ones while routers stand still, and otherwise not", async () => {
    const routing = { kind: "student-aware", freezeAbove: 0.1 } as const;
    const still = { ...routing, routerLearningRate: 1e-30 };
    const plain = await train({ kind: "active", active: all });
    for (const roundUpdates of [1, 2, 32]) {
      const aware = await train({ ...still, roundUpdates });
      expect(aware.parameters, String(roundUpdates)).toEqual(plain.parameters);
    }
    const moving = await train({ ...routing, routerLearningRate: 1e-2, roundUpdates: 2 });
    expect(moving.parameters).not.toEqual(plain.parameters);
    const looks = moving.lines.flatMap((line) => (line.kind === "held-out" ? [line.routerKl!] : []));
    expect(looks.map((kl) => kl.length)).toEqual(looks.map(() => 3));
    expect(Math.max(...looks[0]!)).toBe(0);
    expect(Math.min(...looks.at(-1)!)).toBeGreaterThan(0);
  });

  test.each([
    ["augment", { kind: "augment", lambda: 0.5, draws: 2 }],
    ["student-aware", { kind: "student-aware", routerLearningRate: 1e-2, roundUpdates: 2, freezeAbove: 1e-9 }],
  ] satisfies [string, TeacherRouting][])("%s: killed anywhere, it continues to the same bytes", async (_, routing) => {
    const whole = await train(routing);
    for (const last of [1, 2]) {
      const stateDirectory = temporaryFolder();
      const stop = (line: MetricsLine) => {
        if (line.kind === "update" && line.step > last) throw new Error("stopped");
      };
      await expect(train(routing, { stateDirectory, onMetrics: stop })).rejects.toThrow("stopped");
      const resumed = await train(routing, { stateDirectory });
      expect(resumed.parameters, String(last)).toEqual(whole.parameters);
      const behind = ({ lines }: Trained) => lines.filter((line) => "step" in line && line.step > last);
      expect(behind(resumed)).toEqual(behind(whole));
    }
  });
});

describe("keyed draws", () => {
  const moe = async (name: string): Promise<MoeDescription> => {
    const { description } = await openModel(goldenCheckpoint(name));
    const part = withActiveExperts(description, 3).layers.at(-1)!.feedForward;
    if (part.kind !== "moe") throw new Error("no experts");
    return part;
  };

  test("do not depend on how tokens are cut into chunks and batches", async () => {
    const part = await moe("olmoe");
    const logits = Float32Array.from({ length: 12 * 8 }, (_, i) => Math.sin(i * i));
    const drawn = (from: number, to: number, firstSequence: number, offset: number) => {
      const draws = new KeyedDraws({ lambda: 0.7, seed: 5, draw: 1 }, 4);
      draws.firstSequence = firstSequence;
      const ids = new Int32Array((to - from) * 3);
      const routerLogits = logits.slice(from * 8, to * 8);
      draws.sampler.sample({ layer: 2, moe: part, routerLogits, firstToken: from - offset, ids });
      return [...ids];
    };
    const whole = drawn(0, 12, 0, 0);
    expect([...drawn(0, 3, 0, 0), ...drawn(3, 8, 0, 0), ...drawn(8, 12, 2, 8)]).toEqual(whole);
  });

  test("take experts by their probabilities, without replacement: 10^5 draws within four standard deviations", async () => {
    const tokens = 100_000;
    const part = { ...(await moe("olmoe")), numExpertsPerToken: 2 };
    const p = [0.5, 0.2, 0.15, 0.05, 0.04, 0.03, 0.02, 0.01];
    const logits = new Float32Array(tokens * 8);
    for (let i = 0; i < logits.length; i++) logits[i] = Math.log(p[i % 8]!);
    const ids = new Int32Array(tokens * 2);
    const { sampler } = new KeyedDraws({ lambda: 1, seed: 3, draw: 0 }, 64);
    sampler.sample({ layer: 0, moe: part, routerLogits: logits, firstToken: 0, ids });
    const counts = new Array<number>(8).fill(0);
    for (const id of ids) counts[id]!++;
    p.forEach((mine, e) => {
      // First, or second behind any other.
      const expected = mine + p.reduce((sum, other, j) => sum + (j === e ? 0 : (other * mine) / (1 - other)), 0);
      const deviation = Math.sqrt(tokens * expected * (1 - expected));
      expect(Math.abs(counts[e]! - tokens * expected), `expert ${e}`).toBeLessThan(4 * deviation);
    });
  });
});

test("routings that a teacher cannot have are refused by name", async () => {
  const phi = (await openModel(goldenCheckpoint("phimoe"))).description;
  expect(() => teacherRoutes({ kind: "augment", lambda: 0.05, draws: 2, active: 2 }, phi, 0)).toThrow(/SparseMixer/);
  expect(() => teacherRoutes({ kind: "active" }, student.description, 0)).toThrow(/this olmo2 teacher has none/);
});
