import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { inEvaluationFolder, type EvaluationFolderOptions } from "../../../../src/engine/run/folder/evaluationFolder";
import { lockRunFolder } from "../../../../src/engine/run/folder/lock";
import type { RuntimeOptions } from "../../../../src/engine/runtime/session";
import { temporaryFolder } from "../../../support/temporaryFolder";

const inputs = { "the checkpoint": "abc", "the text": { sha256: "def", sequences: 3 } };
const state = "evaluation-student-state.json";

/** An evaluation in a folder that is interrupted, or not; and what it found there. */
function folder(parent = temporaryFolder()) {
  const directory = path.join(parent, ".reroute", "runs", "evaluate-1");
  const warnings: string[] = [];
  const attempt = async (
    how: "killed" | "stopped before it kept anything" | "done",
    change: Partial<EvaluationFolderOptions> = {},
  ) => {
    let found: { runtime: RuntimeOptions; isResumed: boolean } | null = null;
    const work = async (runtime: RuntimeOptions) => {
      found = { runtime, isResumed: existsSync(path.join(directory, state)) };
      if (how === "done") return;
      if (how === "killed") writeFileSync(path.join(directory, state), "{}");
      throw new Error("stopped");
    };
    const options = { directory, inputs, machine: { threads: 1, provider: "cpu" } as const };
    const ended = await inEvaluationFolder(
      { ...options, onWarning: (text) => warnings.push(text), ...change },
      work,
    ).then(
      () => "done",
      (error: unknown) => (error as Error).message,
    );
    return { ended, found: found as { runtime: RuntimeOptions; isResumed: boolean } | null };
  };
  return { parent, directory, warnings, attempt };
}

describe("an evaluation's folder", () => {
  it("is found again by an interrupted one, with the memory budget it began with, and goes when it is done", async () => {
    const { parent, directory, warnings, attempt } = folder();
    const first = await attempt("killed");
    expect([first.ended, first.found?.isResumed]).toEqual(["stopped", false]);
    expect(readdirSync(directory).sort()).toEqual(["evaluation-inputs.json", state]);
    const second = await attempt("done");
    // The default budget is a share of what is free, which has changed since.
    expect(second).toEqual({ ended: "done", found: { runtime: first.found!.runtime, isResumed: true } });
    expect([readdirSync(parent), warnings]).toEqual([[], []]);
  });

  it("stays where it was before, with what is not the evaluation's", async () => {
    const { directory, attempt } = folder();
    mkdirSync(directory, { recursive: true });
    expect((await attempt("done")).ended).toBe("done");
    expect(readdirSync(directory)).toEqual([]);
    writeFileSync(path.join(directory, "notes.txt"), "mine");
    await attempt("killed");
    await attempt("done");
    expect(readdirSync(directory)).toEqual(["notes.txt"]);
  });

  it("does not stay for an evaluation that kept nothing", async () => {
    const { parent, attempt } = folder();
    expect((await attempt("stopped before it kept anything")).ended).toBe("stopped");
    expect(readdirSync(parent)).toEqual([]);
  });

  it.each<[string, Partial<EvaluationFolderOptions>]>([
    ["the checkpoint", { inputs: { ...inputs, "the checkpoint": "other" } }],
    ["the text", { inputs: { ...inputs, "the text": { sha256: "def", sequences: 4 } } }],
    ["the teacher", { inputs: { ...inputs, "the teacher": "new" } }],
    ["the text", { inputs: { "the checkpoint": "abc" } }],
    ["memory, threads or provider", { machine: { memory: "1GiB", threads: 1, provider: "cpu" } }],
    ["memory, threads or provider", { machine: { threads: 2, provider: "cpu" } }],
  ])("begins anew where %s changed, and says so", async (what, change) => {
    const { parent, warnings, attempt } = folder();
    await attempt("killed");
    expect((await attempt("done", change)).found?.isResumed).toBe(false);
    expect(warnings).toEqual([`The evaluation begins anew: changed since it was interrupted: ${what}`]);
    expect(readdirSync(parent)).toEqual([]);
  });

  it("with a damaged record begins anew", async () => {
    const { directory, warnings, attempt } = folder();
    await attempt("killed");
    writeFileSync(path.join(directory, "evaluation-inputs.json"), "{");
    expect((await attempt("done")).found?.isResumed).toBe(false);
    expect(warnings).toEqual(["The evaluation begins anew: evaluation-inputs.json cannot be read"]);
    // Who made the folder is no longer known, so it stays.
    expect(readdirSync(directory)).toEqual([]);
  });

  it("is refused while another process works in it, and where it is a run's", async () => {
    const { directory, attempt } = folder();
    await attempt("killed");
    const release = await lockRunFolder(directory);
    expect((await attempt("done")).ended).toMatch(/in use by process/);
    expect(readdirSync(directory)).toContain(state);
    await release();
    writeFileSync(path.join(directory, "run.json"), "{}");
    expect((await attempt("done")).ended).toMatch(/holds a run/);
    expect(readdirSync(directory)).toContain(state);
  });
});
