import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { evaluateCheckpoint } from "../../../src/engine/evaluation/evaluate";
import { isEvaluationState } from "../../../src/engine/evaluation/evaluationState";
import { TeacherRuns } from "../../../src/engine/evaluation/teacherRuns";
import type { OpenModel } from "../../../src/engine/run/work";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import { goldenCheckpoint, readGolden } from "../../support/goldens";
import { daily, isNightly } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences, writeGoldenStudent } from "../../support/tinyModels";

/** Each chunk of each layer takes a quarter of a second in graphs. */
const clock = vi.hoisted(() => ({ graphs: 0 }));
vi.mock(import("../../../src/engine/runtime/session"), async (original) => {
  const actual = await original();
  return { ...actual, graphSeconds: () => (clock.graphs += 0.25) };
});

const lengths = [12, 5, 12, 2, 9, 12];
const sequences = randomSequences(3, 6, 12, { lengths, domains: ["prose", "code"] });
const roles = ["teacher", "student"] as const;

interface Attempt {
  /** Stops at this chunk of a layer, as a kill would: what was saved stays. */
  stopAt?: number;
  text?: TokenSequences;
  /** As the run's stage: the teacher first, then the student against its run. */
  memoryBudgetBytes?: number;
}

/** A teacher and its student, evaluated in one state folder; each attempt stands for a process. */
function evaluator(teacher: OpenModel, student: OpenModel, expertMapping: Record<string, number[][]>) {
  const folder = temporaryFolder();
  const attempt = async ({ stopAt = Infinity, text = sequences, memoryBudgetBytes = 2e9 }: Attempt = {}) => {
    let chunks = 0;
    const teacherRuns = new TeacherRuns();
    const evaluate = async (model: OpenModel, against: OpenModel | null, saveEverySeconds = 0) => {
      return evaluateCheckpoint({
        ...{ model, teacher: against, sequences: text, teacherRuns, scratchDirectory: folder },
        expertMapping: against && expertMapping,
        runtime: { threads: 1, provider: "cpu", memoryBudgetBytes },
        resume: {
          directory: folder,
          model: model.fingerprint,
          teacher: against?.fingerprint ?? null,
          saveEverySeconds,
        },
        residentBytes: () => 5e8,
        report: () => {
          if (++chunks > stopAt) throw new Error("stopped");
        },
      });
    };
    try {
      const results = [await evaluate(teacher, null), await evaluate(student, teacher)];
      return { json: JSON.stringify(results), chunks };
    } catch (error) {
      if ((error as Error).message !== "stopped") throw error;
      return { json: null, chunks };
    } finally {
      teacherRuns.close();
    }
  };
  const stateFiles = () => readdirSync(folder).filter((name) => roles.some((role) => isEvaluationState(name, role)));
  const forget = () => readdirSync(folder).forEach((name) => rmSync(path.join(folder, name)));
  return { attempt, stateFiles, forget, folder };
}

async function evaluatorOf(family: string) {
  const teacher = await openModel(goldenCheckpoint(family));
  const student = await writeGoldenStudent(family, path.join(temporaryFolder(), "student"));
  const kept = [...(await readGolden(family))].filter(([name]) => name.startsWith("kept."));
  const mapping = Object.fromEntries(
    kept.map(([name, { values }]) => [name.split(".")[1]!, values.map((expert) => [expert])]),
  );
  return () => evaluator(teacher, student, mapping);
}

describe("an evaluation", () => {
  let make: () => ReturnType<typeof evaluator>;
  beforeAll(async () => {
    make = await evaluatorOf("olmoe");
  });

  // Room for all, and room for nothing: a chunk is then one sequence, and routing lies in scratch files.
  it.each(
    daily(2, [
      ["olmoe", 2e9],
      // Dense layers first, and a correction bias.
      ["deepseek_v3", 1],
      ["olmoe", 1],
    ]),
  )(
    "of %s that was stopped anywhere goes on behind its last layer, to the same bytes, with a budget of %d bytes",
    async (family, memoryBudgetBytes) => {
      const { attempt, forget } = (await evaluatorOf(family))();
      const whole = await attempt({ memoryBudgetBytes });
      expect(whole.json).not.toBeNull();
      const perLayer = memoryBudgetBytes === 1 ? lengths.length : 1;
      const step = isNightly ? 1 : Math.ceil(whole.chunks / 3);
      for (let stopAt = 1; stopAt < whole.chunks; stopAt += step) {
        forget();
        expect((await attempt({ stopAt, memoryBudgetBytes })).json).toBeNull();
        const again = await attempt({ memoryBudgetBytes });
        expect(again.json).toBe(whole.json);
        // Only the layer that was under way is done again; what is skipped is reported in one go, once for each model.
        expect(again.chunks + stopAt).toBeLessThanOrEqual(whole.chunks + perLayer + 3);
      }
    },
  );

  it("that is stopped again and again gets there all the same", async () => {
    const { attempt, forget } = make();
    const whole = await attempt();
    forget();
    let attempts = 1;
    let last = await attempt({ stopAt: 2 });
    for (; last.json === null && attempts < 50; attempts++) last = await attempt({ stopAt: 1 + attempts });
    expect(last.json).toBe(whole.json);
    expect(attempts).toBeGreaterThan(2);
  });

  it("with damaged or missing state begins anew, and adds nothing twice", async () => {
    const { attempt, forget, folder, stateFiles } = make();
    const whole = await attempt();
    const damages: [string, RegExp][] = [
      ["gone", /hidden/],
      ["cut", /trace.*selected/],
      ["cut", /state\.json$/],
      ["gone", /state\.json$/],
      ["gone", /trace.*logits/],
    ];
    for (const [how, which] of daily(3, damages)) {
      forget();
      await attempt({ stopAt: whole.chunks - 1 });
      const names = stateFiles().filter((name) => which.test(name));
      expect(names.length).toBeGreaterThan(0);
      for (const name of names) {
        const file = path.join(folder, name);
        if (how === "gone") rmSync(file);
        else writeFileSync(file, readFileSync(file).subarray(0, -3));
      }
      expect((await attempt()).json).toBe(whole.json);
    }
  });

  it("does not go on with another text", async () => {
    const { attempt, forget } = make();
    const text = randomSequences(4, 6, 12, { lengths, domains: ["prose", "code"] });
    const wholeOfOther = await attempt({ text });
    forget();
    const { chunks } = await attempt();
    forget();
    await attempt({ stopAt: chunks - 1 });
    expect((await attempt({ text })).json).toBe(wholeOfOther.json);
  });

  it("refuses sums that do not fit the models", async () => {
    const { attempt, forget, folder } = make();
    const whole = await attempt();
    forget();
    await attempt({ stopAt: whole.chunks - 1 });
    const file = path.join(folder, "evaluation-student-state.json");
    const kept = JSON.parse(readFileSync(file, "utf8")) as { layers: number; fidelity: { klByExpert: number[] }[] };
    const [first] = kept.fidelity;
    for (const damage of [
      { ...kept, fidelity: [] },
      { ...kept, fidelity: [{ ...first, klByExpert: [1] }, ...kept.fidelity.slice(1)] },
      { ...kept, fidelity: [first, first, ...kept.fidelity.slice(1)] },
      { ...kept, layers: kept.layers + 100 },
      { ...kept, layers: 0 },
    ]) {
      writeFileSync(file, JSON.stringify(damage));
      expect((await attempt()).json).toBe(whole.json);
      forget();
      await attempt({ stopAt: whole.chunks - 1 });
    }
  });
});
