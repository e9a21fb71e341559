import path from "node:path";
import type { Command } from "commander";
import { readPrompts } from "../../engine/data/prompts";
import { RerouteError } from "../../protocol/errors";
import type {
  GenerationEvent,
  GenerationForecast,
  GenerationMetrics,
  GenerationOptions,
  GenerationPrompt,
} from "../../protocol/generation";
import { formatBytes, formatDuration, formatPercent, formatRate } from "../../protocol/quantities";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addMachineOptions, toInteger, toNumber, type SharedOptions } from "../options";

interface GenerateOptions extends SharedOptions, Omit<GenerationOptions, "stop"> {
  prompt?: string[];
  prompts?: string;
  chat?: boolean;
  system?: string;
  greedy?: boolean;
  stop?: string[];
}

type Prompt = GenerationPrompt & { where?: string };

/** `reroute generate <checkpoint>`: responses to prompts, streamed. */
export function addGenerate(program: Command, io: CliIo): void {
  const several = (text: string, before: string[] = []) => [...before, text];
  const command = program
    .command("generate")
    .description("write responses to prompts, token by token")
    .argument("<checkpoint>", "checkpoint folder")
    .option("--prompt <text>", "a prompt; may be repeated", several)
    .option("--prompts <file>", "file of prompts: a column prompt, instruction, question, text or messages")
    .option("--column <key>", "column that holds the prompt (default: told from the columns there are)")
    .option("--chat", "give the prompts as a user's message, through the checkpoint's chat template")
    .option("--system <text>", "system message before it (with --chat)")
    .option("--tokenizer <dir>", "folder with tokenizer.json and chat template (default: the checkpoint)")
    .option(
      "--max-new-tokens <n>",
      "tokens a response may have (default: generation_config.json, else 256)",
      toInteger(1),
    )
    .option("--min-new-tokens <n>", "tokens before which no end token comes", toInteger(0))
    .option("--do-sample", "sample, where generation_config.json does not say so")
    .option("--greedy", "take the most likely token each time, whatever generation_config.json says")
    .option("--temperature <t>", "sample at this temperature, above 0", toNumber)
    .option("--top-k <n>", "sample among the k most likely tokens, 0 for all", toInteger(0))
    .option("--top-p <share>", "sample among the fewest tokens with this share of the probability", toNumber)
    .option("--min-p <share>", "leave out tokens below this share of the largest probability", toNumber)
    .option("--repetition-penalty <x>", "above 1: tokens that were there become less likely", toNumber)
    .option("--stop <text>", "end a response before this text; may be repeated", several)
    .option("--samples <n>", "responses to each prompt (default: 1)", toInteger(1))
    .option("--seed <n>", "seed of sampling (default: 42)", toInteger(0));
  addMachineOptions(command).action(async (checkpoint: string, options: GenerateOptions) => {
    const prompts = await promptsOf(io, options);
    const { generateText } = await import("../../engine/run/generateText");
    const printer = new ResponsePrinter(io, prompts, options.samples ?? 1, options.json ?? false);
    const { memory, threads, provider, tokenizer, greedy, doSample } = options;
    if (greedy && doSample) throw new RerouteError("arguments/invalid", "--greedy and --do-sample exclude each other");
    const { maxNewTokens, minNewTokens, temperature, topK, topP, minP, repetitionPenalty, stop, samples, seed } =
      options;
    const given = { maxNewTokens, minNewTokens, temperature, topK, topP, minP, repetitionPenalty, stop, samples, seed };
    const result = await generateText(
      {
        id: "generate",
        checkpoint: await checkpointPath(io, checkpoint),
        ...(tokenizer === undefined ? {} : { tokenizer: path.resolve(io.cwd, tokenizer) }),
        prompts,
        options: { ...defined(given), ...(greedy ? { doSample: false } : doSample ? { doSample } : {}) },
        ...defined({ memory, threads, provider }),
      },
      { signal: io.signal, onEvent: (event) => printer.show(event) },
    );
    if (options.json) io.out(`${JSON.stringify(result, null, 2)}\n`);
    else io.err(describe(result.metrics));
  });
}

/** @throws RerouteError arguments/invalid, and those of readPrompts */
async function promptsOf(io: CliIo, options: GenerateOptions): Promise<Prompt[]> {
  const { prompt = [], prompts: file, chat, system, column } = options;
  if ((prompt.length === 0) === (file === undefined)) {
    throw new RerouteError("arguments/invalid", "Give either --prompt TEXT or --prompts FILE");
  }
  if (system !== undefined && !chat) {
    throw new RerouteError("arguments/invalid", "--system is a message of a conversation; give --chat with it");
  }
  const found: Prompt[] = prompt.map((text) => ({ text }));
  if (file !== undefined) {
    for await (const read of readPrompts(path.resolve(io.cwd, file), column)) found.push(read);
    if (found.length === 0) throw new RerouteError("arguments/invalid", `${file} holds no prompt`);
  }
  if (!chat) return found;
  const before = system === undefined ? [] : [{ role: "system", content: system }];
  return found.map((one) =>
    "messages" in one
      ? { ...one, messages: [...before, ...one.messages] }
      : {
          ...(one.where === undefined ? {} : { where: one.where }),
          messages: [...before, { role: "user", content: one.text }],
        },
  );
}

/** Responses on stdout as they come: one after another, in the prompts' order, those ahead of their turn held back. */
class ResponsePrinter {
  readonly #held = new Map<string, { text: string; isFinished: boolean }>();
  readonly #order: { key: string; title: string }[];
  #isOpen = false;

  constructor(
    readonly io: CliIo,
    prompts: readonly Prompt[],
    samples: number,
    readonly isSilent: boolean,
  ) {
    const several = prompts.length * samples > 1;
    this.#order = prompts.flatMap(({ where }, prompt) =>
      Array.from({ length: samples }, (_, sample) => ({
        key: `${prompt} ${sample}`,
        title: several
          ? `--- ${where ?? `prompt ${prompt + 1}`}${samples > 1 ? `, response ${sample + 1}` : ""}\n`
          : "",
      })),
    );
  }

  show(event: GenerationEvent): void {
    if (event.kind === "planned") {
      this.io.err(planned(event));
      return;
    }
    if (this.isSilent) return;
    const key = `${event.prompt} ${event.sample}`;
    const held = this.#held.get(key) ?? { text: "", isFinished: false };
    this.#held.set(key, held);
    if (event.kind === "token") held.text += event.text;
    else held.isFinished = true;
    this.#print();
  }

  #print(): void {
    for (let next = this.#order[0]; next !== undefined; next = this.#order[0]) {
      const held = this.#held.get(next.key);
      if (held === undefined) return;
      this.io.out(`${this.#isOpen ? "" : next.title}${held.text}`);
      held.text = "";
      this.#isOpen = !held.isFinished;
      if (!held.isFinished) return;
      this.io.out("\n");
      this.#order.shift();
    }
  }
}

function planned({ secondsPerStep, stepBytes, sequences, batchRows }: GenerationForecast): string {
  const batches = batchRows < sequences ? `${sequences} responses, ${batchRows} at a time\n` : "";
  if (secondsPerStep === null) return batches;
  return (
    `${batches}The weights that a token needs (${formatBytes(stepBytes)}) do not fit the memory that is free and are read again for ` +
    `each token, from this disk in about ${formatDuration(secondsPerStep)}; ${batchRows === 1 ? "responses made together share it" : `${batchRows} responses share it`}\n`
  );
}

function describe(metrics: GenerationMetrics): string {
  const { promptTokens, prefillTokensPerSecond, secondsToFirstToken, newTokens, decodeTokensPerSecond } = metrics;
  const each = metrics.batchRows > 1 ? ` (${formatRate(metrics.stepsPerSecond, "tokens")} each)` : "";
  return (
    `\n${promptTokens} prompt tokens at ${formatRate(prefillTokensPerSecond, "tokens")}, first token after ` +
    `${formatDuration(secondsToFirstToken)}; ${newTokens} new tokens at ${formatRate(decodeTokensPerSecond, "tokens")}${each}; ` +
    `cache ${formatBytes(metrics.cacheBytes)}; ${formatPercent(metrics.endTokenShare)} ended by the model\n`
  );
}

function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
