import { compressionMethods } from "../../protocol/methods";
import type { Translate } from "../../protocol/translate";

export interface RecipeTemplate {
  label: string;
  detail: string;
  /** Name of the file without its ending. */
  name: string;
  ending: ".reroute.json" | ".compare.reroute.json";
  /** A snippet of VS Code: the tab key leads from one place to fill in to the next. */
  snippet: string;
}

const methods = compressionMethods.join(",");

/** Beginnings of recipes. A test holds what they make, with every proposal taken, to the schemas. */
export function recipeTemplates(t: Translate): RecipeTemplate[] {
  return [
    {
      label: t("Compress and calibrate"),
      detail: t("Profile, compress, Router KD, and a verdict on held-out text"),
      name: "calibrate",
      ending: ".reroute.json",
      snippet: `{
  "schemaVersion": 1,
  "teacher": "\${1:checkpoint}",
  "data": {
    "calibration": "\${2:calibration.jsonl}",
    "evaluation": "\${3:evaluation.jsonl}",
    "sequences": \${4:512},
    "sequenceLength": \${5:512}
  },
  "compress": { "method": "\${6|reap,${methods.replace("reap,", "")}|}", "keep": \${7:0.625} },
  "calibrate": { "learningRate": \${8:5e-5} },
  "output": "\${9:checkpoint-calibrated}"
}
`,
    },
    {
      label: t("Calibrate a compressed checkpoint"),
      detail: t("Router KD of a student that exists already, against its teacher"),
      name: "student",
      ending: ".reroute.json",
      snippet: `{
  "schemaVersion": 1,
  "teacher": "\${1:checkpoint}",
  "student": "\${2:student}",
  "data": {
    "calibration": "\${3:calibration.jsonl}",
    "splitEvaluation": true,
    "sequences": \${4:512},
    "sequenceLength": \${5:512}
  },
  "calibrate": { "learningRate": \${6:5e-5} },
  "output": "\${7:student-calibrated}"
}
`,
    },
    {
      label: t("Distil into a dense student"),
      detail: t("A dense model that is built of the teacher's experts, taught by the teacher, and a verdict"),
      name: "distil",
      ending: ".reroute.json",
      snippet: `{
  "schemaVersion": 1,
  "teacher": "\${1:checkpoint}",
  "student": { "build": { "choose": "\${2|reap,frequency,greedy|}" } },
  "data": {
    "calibration": "\${3:calibration.jsonl}",
    "evaluation": "\${4:evaluation.jsonl}",
    "sequences": \${5:512},
    "sequenceLength": \${6:512}
  },
  "calibrate": { "scope": "all", "learningRate": \${7:5e-5} },
  "output": "\${8:checkpoint-dense}"
}
`,
    },
    {
      label: t("Compress only"),
      detail: t("Profile and compress, without calibration"),
      name: "compress",
      ending: ".reroute.json",
      snippet: `{
  "schemaVersion": 1,
  "teacher": "\${1:checkpoint}",
  "data": { "calibration": "\${2:calibration.jsonl}", "sequences": \${3:512}, "sequenceLength": \${4:512} },
  "compress": { "method": "\${5|reap,${methods.replace("reap,", "")}|}", "keep": \${6:0.625} },
  "output": "\${7:checkpoint-compressed}"
}
`,
    },
    {
      label: t("Pipeline"),
      detail: t("Prune experts and neurons, Router KD, quantise, Router KD; measured after each step"),
      name: "pipeline",
      ending: ".reroute.json",
      snippet: `{
  "schemaVersion": 1,
  "teacher": "\${1:checkpoint}",
  "data": {
    "calibration": "\${2:calibration.jsonl}",
    "evaluation": "\${3:evaluation.jsonl}",
    "sequences": \${4:512},
    "sequenceLength": \${5:512}
  },
  "steps": [
    { "compress": { "method": "\${6|reap,${methods.replace("reap,", "")}|}", "keep": \${7:0.625} } },
    { "compress": { "method": "neurons", "keep": \${8:0.75} } },
    { "calibrate": { "learningRate": \${9:5e-5} } },
    { "compress": { "method": "gptq", "options": { "bits": \${10:4}, "group": \${11:128} } } },
    { "calibrate": { "learningRate": \${12:5e-5} } }
  ],
  "output": "\${13:checkpoint-small}"
}
`,
    },
    {
      label: t("Compare methods"),
      detail: t("A grid of methods and ratios, each before and after Router KD"),
      name: "grid",
      ending: ".compare.reroute.json",
      snippet: `{
  "schemaVersion": 1,
  "teacher": "\${1:checkpoint}",
  "data": {
    "calibration": "\${2:calibration.jsonl}",
    "evaluation": "\${3:evaluation.jsonl}",
    "sequences": \${4:512},
    "sequenceLength": \${5:512}
  },
  "grid": { "methods": ["\${6:reap}", "\${7:hc-smoe}"], "keep": [\${8:0.75}, \${9:0.5}] },
  "calibrate": { "learningRate": \${10:5e-5} }
}
`,
    },
  ];
}

/** What a snippet makes when every proposal is taken. */
export function expanded(snippet: string): string {
  return snippet.replace(
    /\$\{\d+(?::([^}]*)|\|([^,|]*)[^|]*\|)\}/g,
    (_, value?: string, first?: string) => value ?? first ?? "",
  );
}
