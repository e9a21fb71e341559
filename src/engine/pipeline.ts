/**
 * Wires a run's stages to the engine's heavy work and to the report: what the command line and the engine process call.
 * onnxruntime loads with the first stage that computes.
 */
import { writeReport } from "./report/writeReport";
import { reusingProfiles } from "./run/knownProfile";
import { liveWork } from "./run/liveWork";
import { stageTable } from "./run/stages";
import type { RunMachinery } from "./run/startRun";

/** What startRun and resumeRun need to do real work. */
export const machinery: RunMachinery = { stages: reusingProfiles(stageTable(writeReport)), work: liveWork };
