import type { Translate } from "../protocol/translate";

type Row = [option: RegExp, words: (t: Translate, part: string) => string];

/** Options that are keys of a recipe, which the message may name itself. */
const keys: Record<string, string> = {
  data: "data.calibration",
  column: "data.column",
  tokenizer: "data.tokenizer",
  "sequence-length": "data.sequenceLength",
  "evaluation-sequences": "data.evaluationSequences",
  "multiple-of": "compress.multipleOf",
  "prompt-tokens": "calibrate.onPolicy.promptTokens",
};

/** Messages of the engine name options of the command line; each row says the editor's own way instead. */
const rows: Row[] = [
  [/or use --force to go on/g, (t) => t("or start it all the same")],
  [/because of --force/g, (t) => t("all the same, as was asked for")],
  [/set at least --memory (\w+)/g, (t, size) => t("set the memory to at least {0} (setting reroute.memory)", size)],
  [/\(--memory\)/g, (t) => t("(setting reroute.memory)")],
  [/ --provider,/g, () => ""],
  [/ \(--provider \w+\)/g, () => ""],
  [/ \(--set [\w=.-]+\)/g, () => ""],
  [/--set ([\w=.-]+)/g, (t, option) => t("{0} in the recipe's options", option)],
  [/run without --queue/g, (t) => t("clear the setting reroute.queue")],
  [/--insecure-queue/g, (t) => t("the setting reroute.allowInsecureQueue")],
  // Asked for where a trace is imported.
  [/ ?\(--checkpoint DIR, --experts-per-token N\)/g, () => ""],
  [/--format (\w+)/g, (t, format) => t("the format {0}", format)],
  [/--type (\w+)/g, (t, type) => t("the type {0}", type)],
  [/ \(--greedy\)/g, () => ""],
  [/--tokenizer DIR, data\.tokenizer in a recipe/g, (t) => t("{0} in the recipe", keys["tokenizer"]!)],
  [/--sequence-length (\d+)/g, (t, length) => t("{0} in the recipe", `${keys["sequence-length"]!} ${length}`)],
  [/--multiple-of (\d+) \(multipleOf in a recipe\)/g, (_, count) => `${keys["multiple-of"]!} ${count}`],
  ...Object.entries(keys).map(([option, key]): Row => [
    new RegExp(`--${option}(?: (?:FILE|DIR|KEY))?(?![\\w-])`, "g"),
    (t) => t("{0} in the recipe", key),
  ]),
];

/** A message of the engine as somebody reads it who has no command line before them. */
export function editorWords(message: string, t: Translate): string {
  return rows.reduce((text, [option, words]) => text.replace(option, (_, part: string) => words(t, part)), message);
}

/** Whether what was refused may be started all the same: text that was trained on, and whatever says so. */
export function mayBeForced({ code, message }: { code: string; message: string }): boolean {
  return code === "data/trained-on" || message.endsWith("or use --force to go on");
}
