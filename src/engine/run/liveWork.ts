import { writeCheckpoint } from "../checkpoint/write";
import { WeightCosine } from "../compression/layer/weightCosine";
import { measureComputeRates } from "../compression/cost/computeRates";
import { iteratesSubspaces } from "../compression/cost/methodCost";
import { measureDense } from "../distillation/build/buildDense";
import { calibrate } from "../distillation/calibrate";
import { calibratedTensors } from "../distillation/writeCalibrated";
import { evaluateTask } from "../evaluation/multipleChoice";
import { evaluateCheckpoint } from "../evaluation/evaluate";
import { measureSpeed } from "../evaluation/speed/measureSpeed";
import { probeExperts, probeBudgetOfEach } from "../evaluation/expertProbe";
import type { ExpertWeights, MoeDescription } from "../model/description";
import { moeLayers } from "../model/moeLayers";
import { withRoundedActivations } from "../model/roundedActivations";
import { measureMachine } from "../execution/measure";
import { profileCheckpoint } from "../execution/profile";
import { weightKey } from "../graph/blocks/weights";
import { RoutingStatistics } from "../routing/collect";
import { previewAgreement } from "../routing/previewAgreement";
import type { Provenance } from "../../protocol/provenance";
import { residentBytes } from "./machine/machine";
import type { CalibrationResult, HeavyWork } from "./work";

/** The work that onnxruntime does, as stages know it. */
export const liveWork: HeavyWork = {
  profile: ({ model, stateDirectory, parts: _, ...rest }) =>
    profileCheckpoint({ ...model, ...rest, collectOutputs: true, scratchDirectory: stateDirectory }),

  previewAgreement: ({ model, sequences, runtime, signal, stateDirectory: scratchDirectory, report }) => {
    report({ stage: "profile", message: "Comparing a sample with exact products", done: 0, total: 1, unit: "steps" });
    return previewAgreement({ ...model, sequences, runtime, signal, scratchDirectory });
  },

  weightCosines: async ({ model, runtime, signal, report }) => {
    const cosine = new WeightCosine(model.checkpoint, runtime);
    const layers = moeLayers(model.description);
    const found = new Map<number, Float64Array>();
    try {
      for (const [done, { layer, moe }] of layers.entries()) {
        const message = "Comparing the experts' weights";
        report({ stage: "profile", message, done, total: layers.length, unit: "steps" });
        const matrix = await cosine.ofLayer(routedExperts(moe), signal);
        if (matrix) found.set(layer, matrix);
      }
    } finally {
      await cosine.close();
    }
    return found;
  },

  measureDense: async ({ stateDirectory: scratchDirectory, ...rest }) =>
    Object.fromEntries(await measureDense({ ...rest, scratchDirectory })),

  calibrate: async ({ output, ...calibration }): Promise<CalibrationResult> => {
    const { student, teacher, options, signal, report } = calibration;
    const trained = await calibrate(calibration);
    const { keptStep, totalUpdates, heldOutBefore, heldOutAfter, trained: names } = trained;
    const metrics = {
      keptStep,
      totalUpdates,
      ...definedNumbers({ heldOutKlBefore: heldOutBefore, heldOutKlAfter: heldOutAfter }),
    };
    const provenance: Provenance = {
      ...output.provenance,
      kind: "calibrated",
      teacher: { path: teacher.checkpoint.directory, fingerprint: teacher.fingerprint },
      student: { path: student.checkpoint.directory, fingerprint: student.fingerprint },
      trained: names,
      metrics,
    };
    const routers = new Set(moeLayers(student.description).map(({ moe: { router } }) => weightKey(router.weight)));
    await writeCheckpoint({
      directory: output.directory,
      tensors: calibratedTensors(student.checkpoint, trained.parameters, routers, options.routerDtype),
      config: student.checkpoint.config,
      copyFilesFrom: student.checkpoint.directory,
      extraFiles: { "reroute.json": `${JSON.stringify(provenance, null, 2)}\n` },
      runId: output.runId,
      leaveMarker: true,
      signal,
      onProgress: ({ bytes, totalBytes }) =>
        report({
          stage: "calibrate",
          message: "Writing the checkpoint",
          done: bytes,
          total: totalBytes,
          unit: "bytes",
        }),
    });
    return { bestStep: keptStep, totalUpdates, heldOutBefore, heldOutAfter, trained: names };
  },

  evaluate: async ({ stateDirectory: directory, keepsState = false, teacherDirectory, task, ...rest }) => {
    const { activations, measureSpeed: timed = false, ...given } = rest;
    const evaluation = { ...given, model: withRoundedActivations(given.model, activations) };
    const { model, teacher } = evaluation;
    const fingerprint = activations === undefined ? model.fingerprint : `${model.fingerprint} ${activations}`;
    const resume = {
      ...{ directory, model: fingerprint, teacher: teacher?.fingerprint ?? null },
      ...(teacherDirectory === undefined ? {} : { teacherDirectory }),
    };
    const state = keepsState ? { resume } : {};
    const options = { ...evaluation, ...state, scratchDirectory: directory, residentBytes };
    const measured = await evaluateCheckpoint(options);
    const { runtime, signal, report, sequences } = given;
    const speed = timed ? { speed: await measureSpeed({ model, ids: sequences.ids, runtime, signal, report }) } : {};
    const evaluated = {
      ...{ ...measured, cost: { ...measured.cost, ...speed } },
      ...(activations === undefined ? {} : { activations }),
    };
    return task ? { ...evaluated, task: await evaluateTask(options, task) } : evaluated;
  },

  probeExperts: ({ stateDirectory: scratchDirectory, runtime, ...rest }) => {
    const memoryBudgetBytes = probeBudgetOfEach(runtime.memoryBudgetBytes, rest.student !== null);
    return probeExperts({ ...rest, runtime: { ...runtime, memoryBudgetBytes }, scratchDirectory });
  },

  probe: async ({ model, sequenceLength, method, ...rest }) => ({
    ...(await measureMachine({ ...model, ...rest, sequenceLength, observer: someStatistics(sequenceLength) })),
    compute: await measureComputeRates(rest.runtime, method !== undefined && iteratesSubspaces(method)),
  }),
};

/** The expert of each router row. */
export function routedExperts({ experts, logicalToPhysical }: MoeDescription): readonly ExpertWeights[] {
  return logicalToPhysical?.map((expert) => experts[expert]!) ?? experts;
}

/** Statistics that nobody reads, for the time that making them takes. */
function someStatistics(sequenceLength: number): RoutingStatistics {
  const lengths = new Int32Array(4096).fill(sequenceLength);
  const sequences = {
    lengths,
    sequenceLength,
    domainIds: new Uint8Array(4096 * sequenceLength),
    domainNames: ["text"],
  };
  return new RoutingStatistics({ checkpoint: "", fingerprint: "", sequences, renormalises: true });
}

function definedNumbers(numbers: Record<string, number | null>): Record<string, number> {
  return Object.fromEntries(Object.entries(numbers).flatMap(([key, value]) => (value === null ? [] : [[key, value]])));
}
