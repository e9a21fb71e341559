import type { RunSummary } from "../../protocol/panels";
import { formatNats } from "../quantities";
import type { Translate } from "../../protocol/translate";

/** How a run looks in a list: what went well must not look like what did not. */
export interface RunFace {
  /** Name of a codicon. */
  icon: string;
  /** Theme colour of the icon; null: the text's own. */
  colour: string | null;
}

const states: Record<Exclude<RunSummary["state"], "done">, RunFace> = {
  pending: { icon: "clock", colour: null },
  running: { icon: "sync~spin", colour: null },
  failed: { icon: "error", colour: "testing.iconFailed" },
  cancelled: { icon: "circle-slash", colour: null },
  interrupted: { icon: "debug-pause", colour: null },
};

/** By the first words of the verdict; one on text that was trained on is no success. */
const verdictFaces: [begins: string, face: RunFace][] = [
  ["recovered on text that was trained on", { icon: "question", colour: "list.warningForeground" }],
  ["recovered", { icon: "pass-filled", colour: "testing.iconPassed" }],
  ["no gain", { icon: "dash", colour: "list.deemphasizedForeground" }],
  ["worse", { icon: "arrow-down", colour: "list.errorForeground" }],
  ["too little text", { icon: "question", colour: "list.warningForeground" }],
];

/** Done without a verdict: finished, and nothing was claimed. */
const finished: RunFace = { icon: "check", colour: null };

export function runFace({ state, verdict }: Pick<RunSummary, "state" | "verdict">): RunFace {
  if (state !== "done") return states[state];
  return verdictFaces.find(([begins]) => verdict?.startsWith(begins) === true)?.[1] ?? finished;
}

type Described = Pick<RunSummary, "state" | "verdict" | "klBefore" | "klAfter" | "tags">;

/** What stands beside a run's name: how it went, when it was made, what it is tagged with. */
export function runDescription(run: Described, date: string): string {
  const { state, verdict, klBefore, klAfter, tags } = run;
  const parts = [state === "done" ? (verdict ?? state) : state];
  if (klBefore !== null && klAfter !== null) parts.push(`KL ${formatNats(klBefore)} → ${formatNats(klAfter)}`);
  return [...parts, date, ...tags.map((tag) => `#${tag}`)].join(" · ");
}

/** What a screen reader says: name, state, verdict, date. */
export function runLabel(run: Described & Pick<RunSummary, "name">, date: string, t: Translate): string {
  const { name, state, verdict, klBefore, klAfter, tags } = run;
  const parts = [name, state];
  if (verdict !== null) parts.push(t("verdict: {0}", verdict));
  if (klBefore !== null && klAfter !== null)
    parts.push(t("KL to the teacher {0} before, {1} after", formatNats(klBefore), formatNats(klAfter)));
  if (tags.length > 0) parts.push(t("tags: {0}", tags.join(", ")));
  return [...parts, t("created {0}", date)].join(", ");
}
