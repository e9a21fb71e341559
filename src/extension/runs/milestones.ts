import type { RunSummary } from "../../protocol/panels";

/** Context keys that complete the walkthrough's steps: what was done, not what was opened and given up. */
export type Milestone = "hasSample" | "hasProfile" | "hasCompressed" | "hasCalibrated" | "readVerdict";

/** The stage whose end a step waits for. */
const stageOf = { hasProfile: "profile", hasCompressed: "compress", hasCalibrated: "calibrate" } as const;

/** Which steps the runs that are there complete. */
export function milestonesOf(runs: readonly Pick<RunSummary, "stages">[]): Milestone[] {
  const done = new Set(runs.flatMap(({ stages }) => stages.flatMap(({ id, state }) => (state === "done" ? [id] : []))));
  return (Object.keys(stageOf) as (keyof typeof stageOf)[]).filter((milestone) => done.has(stageOf[milestone]));
}
