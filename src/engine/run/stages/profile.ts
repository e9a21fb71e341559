import { rm } from "node:fs/promises";
import type { Recipe } from "../../../protocol/recipe";
import { textRead } from "../../data/sequences";
import { pieceDecoder } from "../../data/tokenizer";
import { observedByAll } from "../../execution/observer";
import { moeLayers } from "../../model/moeLayers";
import { withPreviewProducts } from "../../model/previewProducts";
import { authorsRenormalise, RoutingStatistics } from "../../routing/collect";
import { TokenSampler } from "../../routing/tokenSampler";
import { saveRoutingStatistics } from "../../routing/statisticsFile";
import { profileSums } from "../../routing/profileSums";
import { removeProfileState } from "../folder/leftovers";
import { secondsOf } from "../../compression/cost/methodCost";
import { weightCosineCost } from "../../compression/cost/weightCosineCost";
import { planExecution } from "../../execution/memoryPlan";
import { blockTokens } from "../../execution/leaves";
import { beyond, layerThreadsMemory, stateBytesOf, streamingMemory, recipeTokens } from "./forecast";
import { leafTiles } from "../tiles/tileCuts";
import type { Stage } from "./stage";
import { readSequences, sequencesOf } from "./data";
import { fileExists } from "./outputs";

/** Runs the teacher, or what is compressed in its place, over the calibration text and keeps what its routers and experts did: routing-statistics.safetensors. */
export const profileStage: Stage = {
  id: "profile",
  inputs: async (context) => {
    const { fingerprint } = await context.models.model(context.paths.source);
    const { sequences } = context.run.recipe.data;
    return {
      version: 3,
      teacher: fingerprint,
      text: textRead(await sequencesOf(context, context.paths.calibrationData, sequences)),
      ...(isPreview(context.run.recipe) ? { precision: "preview" } : {}),
    };
  },
  hasOutputs: async ({ paths }) => fileExists(paths.file("statistics")),
  discard: async ({ paths }) => {
    await rm(paths.file("statistics"), { force: true });
    await removeProfileState(paths.runDirectory);
  },
  run: async (context) => {
    const { paths, run, work } = context;
    const model = await context.models.model(paths.source);
    const sequences = await readSequences(context, paths.calibrationData, run.recipe.data.sequences);
    const statistics = new RoutingStatistics({
      checkpoint: model.checkpoint.directory,
      fingerprint: model.fingerprint,
      sequences,
      renormalises: authorsRenormalise(model.checkpoint.config),
    });
    const sampler = new TokenSampler(sequences, moeLayers(model.description).length);
    const { runtime, signal, report } = context;
    const approximates = isPreview(run.recipe);
    await work.profile({
      runtime,
      signal,
      report,
      model: approximates ? withPreviewProducts(model) : model,
      sequences,
      observer: observedByAll([statistics, sampler]),
      parts: { statistics, sampler },
      stateDirectory: paths.runDirectory,
      resume: {
        identity: `${model.fingerprint}${approximates ? " preview" : ""}`,
        ...profileSums(paths.file("profileState"), statistics, model.description, sampler),
      },
    });
    const result = statistics.result();
    const cosines = await work.weightCosines({ runtime, signal, report, model });
    for (const layer of result.layers) layer.weightCosine = cosines.get(layer.layer) ?? null;
    const samples = sampler.result(await pieceDecoder(paths.tokenizer));
    const compared = { runtime, signal, report, model, sequences, stateDirectory: paths.runDirectory };
    const preview = approximates ? { preview: await work.previewAgreement(compared) } : {};
    await saveRoutingStatistics(paths.file("statistics"), { ...result, samples, ...preview });
  },
  forecast: (input) => {
    const { recipe, teacher, probe, time, measured } = input;
    const seen = { description: teacher };
    const of = { ...input, teacher: (isPreview(recipe) ? withPreviewProducts(seen) : seen).description };
    const tokens = recipeTokens(recipe).calibration;
    const compared = probe?.compute ? secondsOf(weightCosineCost(teacher), probe.compute) : 0;
    const pass = time.pass(tokens, "observed");
    const seconds = pass + compared;
    const parts = leafTiles(recipe.data.sequences, recipe.data.sequenceLength).length;
    return {
      seconds,
      spread: [{ seconds: pass, parts, limit: `the text has ${parts} ${parts === 1 ? "tile" : "tiles"}` }],
      teacherSeconds: seconds,
      peakMemoryBytes: streamingMemory(of, { tokens, allTokens: tokens }) + layerThreadsMemory(of, tokens),
      assumption: `${tokens} tokens forward${isPreview(recipe) ? ", at most: products in 8-bit integers take less" : ""}; ${measured}`,
    };
  },
  scratch: ({ recipe, teacher, memoryBudgetBytes }) => {
    const { hiddenStateBytes } = planExecution(teacher, recipe.data.sequenceLength, memoryBudgetBytes, "forward");
    const shard = stateBytesOf(teacher, Math.min(recipeTokens(recipe).calibration, blockTokens));
    return { kept: 0, spilled: beyond(shard, hiddenStateBytes) + 2 * shard };
  },
  complete: async ({ paths }) => {
    await removeProfileState(paths.runDirectory);
  },
};

function isPreview({ precision }: Pick<Recipe, "precision">): boolean {
  return precision === "preview";
}
