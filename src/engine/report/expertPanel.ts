import { stat, readFile } from "node:fs/promises";
import {
  similarityMetrics,
  type EvaluatedText,
  type ExpertPanelData,
  type ExpertToken,
  type TextPanelData,
} from "../../protocol/panels";
import type { CompressionPlan } from "../../protocol/plan";
import { compressOptions, type Recipe } from "../../protocol/recipe";
import { endOfScores, pruningCriteria, type PruningCriterion } from "../compression/pruning/criteria";
import {
  ofDomain,
  overDomains,
  tokensSeen,
  type LayerStatistics,
  type RoutingStatisticsData,
} from "../routing/layerStatistics";
import { contextTokens, topTokens, windowTokens, type ProfileSamples } from "../routing/samples";
import { similarityRow } from "../routing/similarity";
import { loadRoutingStatistics } from "../routing/statisticsFile";
import { readRun, runPaths } from "../run/folder/runFolder";
import { readPlan } from "./reportData";
import { evaluationTokensFile } from "../../protocol/evaluationTokens";

/** 2048 tokens with four numbers each take some 100 kB. */
const maxBytes = 8 * 2 ** 20;

/** The first tokens of the evaluated text; null where there is no such file, or none that can be read. */
export async function evaluatedText(file: string): Promise<EvaluatedText | null> {
  try {
    if ((await stat(file)).size > maxBytes) return null;
    const parsed = evaluationTokensFile.safeParse(JSON.parse(await readFile(file, "utf8")));
    if (!parsed.success) return null;
    const { tokens, sequenceLength, before, after } = parsed.data;
    const fits = [before, after].every(
      (one) => !one || [one.nll, one.kl ?? one.nll].every((values) => values.length === tokens.length),
    );
    return fits ? { tokens, sequenceLength, before, after } : null;
  } catch {
    return null;
  }
}

/** One expert of a run's profile; null before the profile is done, or where it has no such expert. */
export async function expertPanel(
  runDirectory: string,
  request: { layer: number; expert: number },
): Promise<ExpertPanelData | null> {
  const { recipe, plan, statistics } = await profileOf(runDirectory);
  return statistics && expertPanelOf(statistics, request, plan, recipe);
}

/** The first tokens of the profiled text in one layer, the first unless it is named, and those of the evaluated text; null where the profile kept none. */
export async function textPanel(runDirectory: string, request: { layer?: number }): Promise<TextPanelData | null> {
  const { statistics, evaluationTokens } = await profileOf(runDirectory);
  return statistics && textPanelOf(statistics, request, await evaluatedText(evaluationTokens));
}

export function expertPanelOf(
  statistics: RoutingStatisticsData,
  { layer, expert }: { layer: number; expert: number },
  plan: CompressionPlan | null,
  recipe: Pick<Recipe, "compress"> | null,
): ExpertPanelData | null {
  const stats = statistics.layers.find((one) => one.layer === layer);
  if (!stats || expert < 0 || expert >= stats.numRouterRows) return null;
  const routed = overDomains(stats, "frequency")[expert]!;
  const { domainNames } = statistics;
  return {
    ...{ layer, expert, numExperts: stats.numRouterRows, tokens: tokensSeen(stats), routed },
    meanRoutingWeight: finiteOrNull(overDomains(stats, "routingWeightSum")[expert]! / routed),
    domains: domainNames.map((name, d) => ({
      name,
      tokens: ofDomain(stats, "tokens", d)[0]!,
      routed: ofDomain(stats, "frequency", d)[expert]!,
    })),
    scores: scoresOf(stats, expert, recipe),
    fate: plan && fateOf(plan, layer, expert),
    top: statistics.samples ? topOf(statistics.samples, layer, expert, domainNames) : null,
    similar: similarityMetrics.flatMap((metric) => {
      // Rows of a merged student's router are no experts, which the other metrics compare.
      if (metric !== "router-logit-cosine" && expert >= stats.numExperts) return [];
      const row = similarityRow(stats, metric, expert);
      return row ? [{ metric, values: Array.from(row, finiteOrNull) }] : [];
    }),
  };
}

/** Scores of all criteria that a profile suffices for, as the run's recipe would have them. */
function scoresOf(
  stats: LayerStatistics,
  expert: number,
  recipe: Pick<Recipe, "compress"> | null,
): ExpertPanelData["scores"] {
  const chosen = recipe?.compress ?? compressOptions.parse({});
  const frequency = overDomains(stats, "frequency");
  return Object.entries(pruningCriteria as Record<string, PruningCriterion>).flatMap(([method, criterion]) => {
    if (criterion.source !== "statistics") return [];
    const options = { reapWeights: chosen.reapWeights, options: chosen.method === method ? chosen.options : {} };
    const scores = Array.from(criterion.score(stats, options), (score, e) =>
      frequency[e]! > 0 ? finiteOrNull(score) : null,
    );
    return [{ method, score: scores[expert] ?? null, ...placeOf(scores, expert, criterion.keepEnd) }];
  });
}

/** Which place a score takes, 1 for the one that stays longest; ties share the better place. */
function placeOf(
  scores: readonly (number | null)[],
  expert: number,
  keepEnd: "highest" | "lowest",
): { place: number | null; of: number } {
  const own = scores[expert] ?? null;
  const of = scores.length;
  if (own === null) return { place: null, of };
  const better = scores.filter((score) => score !== null && (keepEnd === "highest" ? score > own : score < own));
  return { place: better.length + 1, of };
}

/** What a plan does with an expert, in a sentence. */
function fateOf(plan: CompressionPlan, layer: number, expert: number): ExpertPanelData["fate"] {
  const key = String(layer);
  if (!Object.hasOwn(plan.layers, key)) return null;
  switch (plan.paradigm) {
    case "pruning": {
      const { kept, scores, replaceByConstant } = plan.layers[key]!;
      const dropped = !kept.includes(expert);
      const leaves = replaceByConstant ? "Replaced by its mean output" : "Dropped";
      const { place, of } = placeOf(scores ?? [], expert, endOfScores(plan.method));
      const isRouted = scores?.[expert] !== null;
      const why =
        scores === undefined
          ? "the plan says no score"
          : !isRouted
            ? "no token of the calibration text reached it"
            : `its score by ${plan.method} takes place ${place ?? "?"} of ${of}`;
      const against =
        place !== null && place <= kept.length === dropped
          ? "; chosen otherwise (by hand, routing group or protection)"
          : "";
      return { dropped, text: `${dropped ? leaves : "Kept"}: ${why}, ${kept.length} stay${against}` };
    }
    case "merging": {
      const group = plan.layers[key]!.groups.find(({ members }) => members.includes(expert));
      if (!group) return null;
      const others = group.members.filter((e) => e !== expert);
      if (others.length === 0) return { dropped: false, text: "Stands alone: merged with no other" };
      const share = `weight ${Number(group.weights[group.members.indexOf(expert)]!.toPrecision(3))}`;
      const isDominant = group.dominant === expert;
      const how = isDominant
        ? "stands for the group"
        : `the router row of expert ${group.dominant} stands for the group`;
      return { dropped: !isDominant, text: `Merged with ${others.join(", ")} (${share}); ${how}` };
    }
    case "editing": {
      const ranks = Object.entries(plan.layers[key]!.ranks).map(
        ([name, rank]) => `${name} ${rank === 0 ? "as it is" : rank}`,
      );
      return { dropped: false, text: `Factorised, rank of ${ranks.join(", ")}` };
    }
    case "sparsity": {
      const share = plan.layers[key]!.keep[expert];
      return share === undefined
        ? null
        : { dropped: false, text: `${Number((100 * share).toFixed(1))} % of its weights stay` };
    }
    case "neurons":
      return { dropped: false, text: `${plan.layers[key]!.removed[expert]?.length ?? 0} of its units leave` };
    case "quantisation": {
      const { bits, experts } = plan.layers[key]!;
      return { dropped: false, text: `Quantised to ${experts?.[expert] ?? bits} bits` };
    }
    case "router":
      return null;
  }
}

function topOf(
  { layers, text }: ProfileSamples,
  layer: number,
  row: number,
  domainNames: readonly string[],
): ExpertToken[] | null {
  const samples = layers.get(layer);
  const windows = text?.windows.get(layer);
  if (!samples || !text || !windows) return null;
  const piece = (id: number): string => (id < 0 ? "" : (text.pieces[id] ?? `<${id}>`));
  const found: ExpertToken[] = [];
  for (let i = row * topTokens; i < (row + 1) * topTokens; i++) {
    const position = samples.topPositions[i]!;
    if (position < 0) break;
    const ids = [...windows.subarray(i * windowTokens, (i + 1) * windowTokens)].map(piece);
    found.push({
      position,
      sequence: Math.floor(position / text.sequenceLength),
      domain: domainNames[samples.topDomains[i]!] ?? "",
      weight: samples.topWeights[i]!,
      before: ids.slice(0, contextTokens).join(""),
      token: ids[contextTokens]!,
      after: ids.slice(contextTokens + 1).join(""),
    });
  }
  return found;
}

export function textPanelOf(
  { layers, samples }: RoutingStatisticsData,
  request: { layer?: number },
  evaluated: EvaluatedText | null = null,
): TextPanelData | null {
  const stats = layers.find(({ layer }) => layer === request.layer) ?? layers[0];
  const own = stats && samples?.layers.get(stats.layer);
  if (!own || !samples?.text) return null;
  const { tokenIds, pieces, sequenceLength } = samples.text;
  const k = stats.numExpertsPerToken;
  const order = Array.from({ length: tokenIds.length }, (_, t) =>
    Array.from({ length: k }, (_, s) => t * k + s).sort((a, b) => own.tokenWeights[b]! - own.tokenWeights[a]! || a - b),
  ).flat();
  return {
    layers: layers.map(({ layer }) => layer),
    layer: stats.layer,
    numExperts: stats.numRouterRows,
    numExpertsPerToken: k,
    sequenceLength,
    tokens: Array.from(tokenIds, (id) => pieces[id] ?? `<${id}>`),
    experts: order.map((at) => own.tokenRows[at]!),
    weights: order.map((at) => own.tokenWeights[at]!),
    entropy: Array.from(own.tokenEntropy),
    evaluated,
  };
}

interface Profile {
  recipe: Recipe;
  plan: CompressionPlan | null;
  statistics: RoutingStatisticsData | null;
  /** The file of the evaluated text's tokens, which need not be there. */
  evaluationTokens: string;
}

async function profileOf(runDirectory: string): Promise<Profile> {
  const { recipe, baseFolder } = await readRun(runDirectory);
  const paths = await runPaths(runDirectory, recipe, baseFolder);
  return {
    recipe,
    plan: await readPlan(paths.file("plan")),
    statistics: await statisticsOf(paths.file("statistics")),
    evaluationTokens: paths.file("evaluationTokens"),
  };
}

/** The profile that was asked for last: a click asks for the one that is shown. */
let last: { key: string; statistics: Promise<RoutingStatisticsData> } | null = null;

async function statisticsOf(file: string): Promise<RoutingStatisticsData | null> {
  const found = await stat(file).catch(() => null);
  if (!found) return null;
  const key = `${file} ${found.size} ${found.mtimeMs}`;
  if (last?.key !== key) last = { key, statistics: loadRoutingStatistics(file) };
  return last.statistics.catch(() => null);
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
