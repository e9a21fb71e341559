import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { buildOptions, type BuildOptions } from "../../protocol/denseStudent";
import type { Estimate } from "../../protocol/evaluation";
import type { ReportProgress } from "../../protocol/progress";
import type { Recipe } from "../../protocol/recipe";
import { RerouteError } from "../../protocol/errors";
import { quote } from "../checkpoint/quote";
import { buildSequences } from "../data/buildSequences";
import { sliceSequences } from "../data/sequences";
import type { DenseLayers, WrittenDense } from "../distillation/build/buildDense";
import { requireExperts } from "../model/requireExperts";
import { newRun } from "./folder/runFolder";
import { runtimeOptions } from "./machine/machine";
import { requireChosenProvider } from "./machine/providerChoice";
import { ModelCache } from "./modelCache";
import { provenanceOf } from "./stages/outputs";
import type { HeavyWork } from "./work";

export interface StudentChoices {
  build: BuildOptions;
  /** Sequences behind those that experts are measured on, on which its KL to the teacher is measured. */
  heldOut: number;
}

export const usualStudent: StudentChoices = { build: buildOptions.parse({}), heldOut: 16 };

/** Of the student as it was built, on text that no expert was measured on; nats a token. */
export interface StudentQuality {
  sequences: number;
  klToTeacher: Estimate;
  nllPerToken: Estimate;
}

/**
 * Builds a dense student in the recipe's output folder: of its teacher, measured on its calibration text.
 * @throws RerouteError output/not-empty before anything is measured; those of openModel, requireExperts, buildSequences, measureDense and writeDense
 */
export async function buildStudent(
  recipe: Recipe,
  baseFolder: string,
  choices: StudentChoices,
  hooks: { signal: AbortSignal; report: ReportProgress; onNote: (note: string) => void },
): Promise<WrittenDense & { layers: DenseLayers; quality: StudentQuality | null }> {
  const models = new ModelCache();
  await requireChosenProvider(recipe.provider);
  const teacher = await models.model(recipe.teacher);
  requireExperts(teacher.description, "build a student of");
  const directory = path.resolve(baseFolder, recipe.output);
  const [inTheWay] = await readdir(directory).catch(() => []);
  if (inTheWay !== undefined)
    throw new RerouteError(
      "output/not-empty",
      `${quote(directory)} is not empty: it holds ${quote(inTheWay)}; choose another folder`,
    );
  const { column, tokenizer, sequences: count, sequenceLength, packing, calibration } = recipe.data;
  const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-build-student-"));
  const { signal, report, onNote } = hooks;
  const { heldOut, build } = choices;
  const runtime = runtimeOptions(recipe);
  try {
    const all = await buildSequences({
      ...{ path: path.resolve(baseFolder, calibration), column, sequences: count + heldOut, sequenceLength, packing },
      ...models.textReaders(tokenizer ?? teacher.checkpoint.directory),
      ...{ onNote, signal, vocabSize: teacher.description.vocabSize },
    });
    const sequences = sliceSequences(all, 0, Math.min(count, all.numSequences));
    const { measureDense, writeDense } = await import("../distillation/build/buildDense");
    const layers = await measureDense({ teacher, sequences, build, scratchDirectory, signal, report, runtime });
    const provenance = provenanceOf(newRun("build-student", recipe, baseFolder));
    const written = await writeDense({ teacher, layers, directory, provenance, signal, report });
    const built = { ...written, layers };
    const rest = sliceSequences(all, sequences.numSequences, all.numSequences);
    if (rest.numSequences < heldOut) onNote(`the text has ${rest.numSequences} of ${heldOut} held-out sequences`);
    if (rest.numSequences === 0) return { ...built, quality: null };
    const model = await models.model(directory);
    const measured = { teacher, model, sequences: rest, signal, report, runtime, stateDirectory: scratchDirectory };
    return { ...built, quality: await qualityOf(measured) };
  } finally {
    await rm(scratchDirectory, { recursive: true, force: true });
  }
}

async function qualityOf(of: Omit<Parameters<HeavyWork["evaluate"]>[0], "expertMapping">): Promise<StudentQuality> {
  const { liveWork } = await import("./liveWork");
  const { sequences, uncertainty } = await liveWork.evaluate({ ...of, expertMapping: null });
  return { sequences, klToTeacher: uncertainty.klToTeacher!, nllPerToken: uncertainty.nllPerToken };
}
