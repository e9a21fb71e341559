import type { ModelExecutor } from "../execution/modelExecutor";
import { Decoder } from "../generation/decoder";
import { planDecoding } from "../generation/decodingPlan";
import { generate } from "../generation/generate";
import { generationSettings } from "../generation/settings";
import { runtimeOfEach } from "./besideStudent";
import type { CalibrationOptions } from "./calibration";
import { OnPolicyRounds } from "./onPolicyRounds";
import type { RoundWriter } from "./studentRound";
import { teacherRoutes } from "./teacherRouting";
import { TeacherTargets } from "./teacherTargets";

/**
 * The rounds in which the student writes what it learns from; null where it learns from the text alone.
 * @throws RerouteError model/unsupported-option, preflight/memory for a student that cannot be decoded so
 */
export async function openOnPolicy(
  calibration: CalibrationOptions,
  run: {
    executor: ModelExecutor;
    numbersOf: (update: number) => Int32Array;
    totalUpdates: number;
    inputHash: string;
  },
): Promise<OnPolicyRounds | null> {
  const { teacher, training, options, seed, stateDirectory, signal, report } = calibration;
  const { onPolicy, teacherRouting } = options;
  if (onPolicy === undefined) return null;
  const runtime = runtimeOfEach(calibration.runtime, options);
  const common = {
    teacher,
    runtime,
    directory: stateDirectory,
    signal,
    stage: "calibrate",
    ...(report ? { report } : {}),
  };
  const teach =
    teacherRouting?.kind === "student-aware"
      ? null
      : async (sequences: typeof training, round: number) => {
          const draws: TeacherTargets[] = [];
          // Draws of their own in each round.
          for (const route of teacherRoutes(teacherRouting, teacher.description, seed + 1 + round))
            draws.push(await TeacherTargets.prepare({ ...common, sequences, route }));
          return draws;
        };
  return new OnPolicyRounds({
    ...{ onPolicy, training, teach, directory: stateDirectory, report, ...run },
    write: await studentWriter(calibration, run.executor),
  });
}

/** The student as its executor holds it, sampled from its whole distribution whatever generation_config.json says. */
async function studentWriter(
  { student, training, options, seed, runtime, signal }: CalibrationOptions,
  { trained }: ModelExecutor,
): Promise<RoundWriter> {
  const { checkpoint, description } = student;
  const { temperature, pastEnd = false } = options.onPolicy!;
  const endIds = pastEnd ? [] : (await generationSettings(checkpoint, {})).endIds;
  const settings = {
    ...{ doSample: true, temperature, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
    ...{ maxNewTokens: training.sequenceLength, minNewTokens: 0, endIds, keepsEndToken: true as const, stop: [] },
    ...{ seed, samples: 1 },
  };
  const each = runtimeOfEach(runtime, options);
  const planFor = (rows: number) => planDecoding(description, each.memoryBudgetBytes, training.sequenceLength, rows);
  planFor(1);
  return async (prompts, mostTokens) => {
    if (prompts.length === 0) return [];
    const plan = planFor(prompts.length);
    const decoder = await Decoder.open({ checkpoint, description, runtime: each, plan, parameters: trained });
    try {
      const { responses } = await generate({ decoder, prompts, settings, contextLength: mostTokens, signal });
      return responses.map(({ ids }) => Int32Array.from(ids));
    } finally {
      await decoder.close();
    }
  };
}
