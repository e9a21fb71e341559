import path from "node:path";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { RunSummary } from "../../protocol/panels";
import { compressionMethods, paradigmOf, type CompressionMethod, type Paradigm } from "../../protocol/methods";
import { textFormatOf } from "../../protocol/textFormats";
import { formatNats } from "../quantities";
import type { Translate } from "../../protocol/translate";
import { methodChoices } from "../wizard/choices";
import { expertCounts } from "../wizard/validation";
import { jsonPlaces, placeAt, type JsonPlace } from "./jsonPlaces";

/** What a recipe's editor tells beyond its schema. Pure: recipeDocuments.ts gives it to VS Code. */

export interface Help {
  start: number;
  end: number;
  /** Markdown for hovers, plain text for hints. */
  text: string;
}

/** What a method does, for whom its output is, and what the keep ratio means, at a place of a recipe or comparison. */
export function hoverAt(text: string, offset: number, t: Translate): Help | null {
  const place = placeAt(text, offset);
  if (!place || typeof place.value !== "string" || !isMethod(place)) return null;
  const { value } = place;
  const choice = methodChoices(t)
    .flatMap(({ title, choices }) => choices.map((one) => ({ ...one, title })))
    .find((one) => one.value === value);
  if (!choice) return null;
  const lines = [
    `**${choice.label}**`,
    `${choice.detail ?? ""}.`,
    `${choice.title}; ${choice.description}.`,
    scopeOfKeep(value as CompressionMethod, t),
  ];
  return { start: place.start, end: place.end, text: lines.join("\n\n") };
}

function isMethod({ keys }: JsonPlace): boolean {
  const names = keys.map(String);
  return outsideSteps(keys) === "compress.method" || (names[0] === "grid" && names[1] === "methods");
}

/** Keys with dots; those of a pipeline's step as if it were the recipe. */
function outsideSteps(keys: JsonPlace["keys"]): string {
  return (keys[0] === "steps" ? keys.slice(2) : keys).join(".");
}

function scopeOfKeep(method: CompressionMethod, t: Translate): string {
  return {
    pruning: t("`keep` is the share, or the number, of experts that stay in each layer."),
    merging: t("`keep` is the share, or the number, of experts that remain after merging in each layer."),
    editing: t("`keep` is the share of the experts' parameters that stays; every expert stays, smaller."),
    quantisation: t("`keep` is not looked at; the option `bits` says how small the experts' weights become."),
    sparsity: t(
      "`keep` is the share of the experts' weights that stays; the others become zero, the size does not change.",
    ),
    neurons: t("`keep` is the share of the experts' intermediate units that stays; every expert stays, narrower."),
    router: t("`keep` is the share of the routers' inputs or weights that stays; the others become zero."),
  }[paradigmOf(method)];
}

/** Numbers of groups that routers of released models choose among. */
const possibleGroups = [1, 2, 4, 8, 16];

/**
 * Experts of a layer that `keep` leaves. Where routing is limited to groups, a share is rounded in each group, unless the recipe drops
 * the limit: null where the count depends on what is not known here.
 */
function certainCount(
  keep: number,
  experts: number,
  { supported, routingGroups = 1 }: CheckpointSummary,
): number | null {
  if (keep > 1) return keep;
  const counts = (supported ? [1, routingGroups] : possibleGroups)
    .filter((groups) => experts % groups === 0)
    .map((groups) => Math.round((experts / groups) * keep) * groups);
  return counts.every((count) => count === counts[0]) ? counts[0]! : null;
}

/** What leaves fewer experts. */
const dropsExperts: readonly Paradigm[] = ["pruning", "merging"];

/** "80 of 128" behind each `keep` of a recipe or comparison about a checkpoint, where that is certain. */
export function keepHints(text: string, checkpoint: CheckpointSummary, t: Translate): Help[] {
  const places = jsonPlaces(text);
  // Of a pipeline, the first step alone works on the teacher's experts.
  const own = places.filter(({ keys }) => keys[0] !== "steps" || keys[1] === 0);
  const valueOf = (keys: string) => own.find((place) => outsideSteps(place.keys) === keys)?.value;
  const isDense = checkpoint.layers.every(({ moe }) => moe === null);
  // An expert that gets smaller stays, a share of its parameters does; with a multiple, or a plan, the count is another.
  const method = valueOf("compress.method");
  const isShare = compressionMethods.some((one) => one === method && !dropsExperts.includes(paradigmOf(one)));
  const isOther = ["compress.multipleOf", "compress.plan"].some((keys) => valueOf(keys) !== undefined);
  if (isDense || isShare || isOther) return [];
  const { fewest, most } = expertCounts(checkpoint);
  return own.flatMap(({ keys, value, start, end }) => {
    const isKeep = outsideSteps(keys) === "compress.keep" || (keys[0] === "grid" && keys[1] === "keep");
    if (!isKeep || typeof value !== "number" || !(value > 0)) return [];
    const [least, greatest] = [certainCount(value, fewest, checkpoint), certainCount(value, most, checkpoint)];
    if (least === null || greatest === null) return [];
    const of = (kept: number, experts: number) => t("{0} of {1}", kept, experts);
    const range = t("{0} to {1}", of(least, fewest), of(greatest, most));
    return [{ start, end, text: fewest === most ? of(greatest, most) : range }];
  });
}

/** Keys whose value is a path, and what may stand there. */
const pathKeys: Record<string, "folder" | "text" | "plan"> = {
  teacher: "folder",
  student: "folder",
  source: "folder",
  output: "folder",
  "data.calibration": "text",
  "data.evaluation": "text",
  "data.tokenizer": "folder",
  "compress.plan": "plan",
};

export interface PathChoice {
  label: string;
  isFolder: boolean;
  /** What it replaces: the last part of the path, or the whole of an empty one. */
  start: number;
  end: number;
}

export interface FolderEntry {
  name: string;
  isFolder: boolean;
}

/** Paths that can stand at a place of a recipe, from what `list` says is in a folder; null where no path belongs. */
export function pathChoices(
  text: string,
  offset: number,
  baseFolder: string,
  list: (folder: string) => FolderEntry[],
): PathChoice[] | null {
  const place = placeAt(text, offset);
  const kind = place ? pathKeys[outsideSteps(place.keys)] : undefined;
  if (!place || kind === undefined || typeof place.value !== "string") return null;
  const contentStart = place.start + 1;
  if (offset < contentStart) return null;
  const typed = text.slice(contentStart, offset).replaceAll("\\\\", "/");
  const slash = typed.lastIndexOf("/");
  const folder = path.resolve(baseFolder, typed.slice(0, slash + 1));
  const isClosed = text[place.end - 1] === '"' && place.end - 1 > place.start;
  const start = contentStart + slash + 1;
  const end = Math.max(offset, isClosed ? place.end - 1 : place.end);
  return list(folder)
    .filter(({ name, isFolder }) => !name.startsWith(".") && (isFolder || fitsKind(name, kind)))
    .map(({ name, isFolder }) => ({ label: isFolder ? `${name}/` : name, isFolder, start, end }));
}

function fitsKind(name: string, kind: "folder" | "text" | "plan"): boolean {
  if (kind === "text") return textFormatOf(name) !== null;
  return kind === "plan" && name.endsWith(".json");
}

/** The newest run of a recipe: one of the same teacher that wrote, or will write, the same output. */
export function lastRunOf(
  recipe: { teacher: string; output: string },
  baseFolder: string,
  runs: readonly RunSummary[],
): RunSummary | null {
  const at = (base: string, file: string) => path.resolve(base, file);
  return (
    runs.find(
      (run) =>
        at(run.baseFolder, run.output) === at(baseFolder, recipe.output) &&
        at(run.baseFolder, run.teacher) === at(baseFolder, recipe.teacher),
    ) ?? null
  );
}

/** "Last verdict: recovered · KL 0.250 → 0.179", or the state of a run without one. */
export function lastVerdict({ state, verdict, klBefore, klAfter }: RunSummary, t: Translate): string {
  const kl = klBefore !== null && klAfter !== null ? ` · KL ${formatNats(klBefore)} → ${formatNats(klAfter)}` : "";
  return verdict === null ? t("Last run: {0}", state) : t("Last verdict: {0}", verdict) + kl;
}
