/**
 * Wires a run's stages to the engine's heavy work and to the report. The one place that knows both; it is what the
 * command line and the engine process call. onnxruntime loads with the first stage that computes.
 */
import { writeCheckpoint } from "./checkpoint/write";
import { calibrate } from "./distillation/calibrate";
import { calibratedTensors } from "./distillation/writeCalibrated";
import { evaluateCheckpoint } from "./evaluation/evaluate";
import { measureMachine } from "./execution/measure";
import { profileCheckpoint } from "./execution/profile";
import { weightKey } from "./graph/blocks/weights";
import { writeReport } from "./report/writeReport";
import { moeLayers } from "./compression/plan/moeLayers";
import { residentBytes } from "./run/machine";
import { stageTable } from "./run/stages";
import type { RunMachinery } from "./run/startRun";
import type { HeavyWork } from "./run/work";
import type { Provenance } from "../protocol/provenance";

const work: HeavyWork = {
  profile: ({ model, stateDirectory, ...options }) =>
    profileCheckpoint({ ...options, ...model, collectOutputs: true, scratchDirectory: stateDirectory }),
  calibrate: async ({ student, teacher, output, ...options }) => {
    const source = ({ checkpoint, description, fingerprint }: typeof student) => ({
      checkpoint,
      description,
      fingerprint,
    });
    const trained = await calibrate({ ...options, student: source(student), teacher: source(teacher) });
    const routers = new Set(moeLayers(student.description).map(({ moe }) => weightKey(moe.router.weight)));
    const metrics = { keptStep: trained.keptStep, totalUpdates: trained.totalUpdates };
    const provenance: Provenance = {
      ...output.provenance,
      kind: "calibrated",
      teacher: { path: teacher.checkpoint.directory, fingerprint: teacher.fingerprint },
      student: { path: student.checkpoint.directory, fingerprint: student.fingerprint },
      metrics: {
        ...metrics,
        ...(trained.heldOutBefore === null ? {} : { heldOutKlBefore: trained.heldOutBefore }),
        ...(trained.heldOutAfter === null ? {} : { heldOutKlAfter: trained.heldOutAfter }),
      },
    };
    await writeCheckpoint({
      directory: output.directory,
      tensors: calibratedTensors(student.checkpoint, trained.parameters, routers, options.options.routerDtype),
      config: student.checkpoint.config,
      copyFilesFrom: student.checkpoint.directory,
      extraFiles: { "reroute.json": `${JSON.stringify(provenance, null, 2)}\n` },
      runId: output.runId,
      // The stage takes the marker away once the run has recorded that it is done.
      leaveMarker: true,
      signal: options.signal,
    });
    const { keptStep, totalUpdates, heldOutBefore, heldOutAfter } = trained;
    return { bestStep: keptStep, totalUpdates, heldOutBefore, heldOutAfter };
  },
  evaluate: ({ stateDirectory, ...options }) =>
    evaluateCheckpoint({ ...options, scratchDirectory: stateDirectory, residentBytes }),
  probe: ({ model, ...options }) => measureMachine({ ...options, ...model }),
};

/** What startRun and resumeRun need to do real work. */
export const machinery: RunMachinery = { stages: stageTable(writeReport), work };
