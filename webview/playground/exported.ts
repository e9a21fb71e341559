import type { PlaygroundData } from "../../src/protocol/playground";
import { decimal } from "../common/format";
import { showInvisible } from "../common/text";

/** What was asked and answered, with every number of the chosen layer. */
export function asJson({ models, run }: PlaygroundData): string {
  const asked = run && {
    ...run.question,
    responses: run.columns.map(({ tokens, finish, metrics }, m) => ({
      checkpoint: models[m]!.name,
      role: models[m]!.role,
      text: textOf(tokens),
      ids: tokens.flatMap(({ id }) => (id === null ? [] : [id])),
      finish,
      metrics,
      ...(run.scores?.texts[m] ? { layer: run.scores.layer, scores: run.scores.texts[m] } : {}),
    })),
    scoredBy: models.map(({ name }) => name),
  };
  return `${JSON.stringify(asked, null, 2)}\n`;
}

/** The same to be read: prompt, settings, and each response with its means. */
export function asMarkdown({ models, run }: PlaygroundData): string {
  if (!run) return "";
  const { question, columns, scores } = run;
  const { doSample, seed, ...rest } = question.options;
  const settings = Object.entries({ doSample, ...rest, ...(doSample ? { seed } : {}) })
    .map(([name, value]) => `${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)} ${value}`)
    .join(", ");
  const mean = (values: readonly number[]) => decimal(values.reduce((sum, value) => sum + value, 0) / values.length);
  const responses = columns.map(({ tokens, finish }, m) => {
    const by = scores?.texts[m]?.models ?? [];
    const numbers = by.flatMap(({ nll, kl }, speaker) => {
      if (nll.length === 0) return [];
      const name = models[speaker]!.name;
      const ofKl = kl ? `, KL to the teacher ${mean(kl)}` : "";
      return [`- ${name}: ${mean(nll)} nats a token${ofKl}`];
    });
    const ended = finish === null ? "" : `\n\n*${tokens.filter(({ id }) => id !== null).length} tokens, ${finish}*`;
    return `## ${models[m]!.name}\n\n${quoted(textOf(tokens))}${ended}${numbers.length > 0 ? `\n\n${numbers.join("\n")}` : ""}`;
  });
  const system = question.system === "" ? "" : `${quoted(question.system)}\n\n`;
  return `# Prompt${question.chat ? " (chat)" : ""}\n\n${system}${quoted(question.prompt)}\n\n${settings}\n\n${responses.join("\n\n")}\n`;
}

export function textOf(tokens: readonly { text: string }[]): string {
  return tokens.map(({ text }) => text).join("");
}

function quoted(text: string): string {
  return text
    .split("\n")
    .map((line) => `> ${showInvisible(line)}`)
    .join("\n");
}
