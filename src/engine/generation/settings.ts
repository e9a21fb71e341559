import { join } from "node:path";
import { RerouteError } from "../../protocol/errors";
import type { GenerationOptions } from "../../protocol/generation";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { readJson } from "../data/tokenizerFiles";
import type { GenerationSettings } from "./generate";

/** What a response may have where nobody says how long. */
const defaultNewTokens = 256;

/**
 * Settings of a generation: each from the options, else from the checkpoint's generation_config.json, else transformers'
 * default (top_k: all tokens, which is transformers' own default only since it is written nowhere). Naming a temperature,
 * top_k, top_p or min_p asks for sampling. End tokens come from generation_config.json, else from config.json.
 *
 * @throws RerouteError arguments/invalid
 */
export async function generationSettings(
  { directory, config }: Checkpoint,
  options: GenerationOptions,
): Promise<GenerationSettings> {
  const file = (await readJson(join(directory, "generation_config.json"))) ?? {};
  const number = (key: string) => (typeof file[key] === "number" ? file[key] : undefined);
  const shaped = [options.temperature, options.topK, options.topP, options.minP];
  const settings: GenerationSettings = {
    doSample: options.doSample ?? (shaped.some((value) => value !== undefined) || file["do_sample"] === true),
    temperature: options.temperature ?? number("temperature") ?? 1,
    topK: options.topK ?? number("top_k") ?? 0,
    topP: options.topP ?? number("top_p") ?? 1,
    minP: options.minP ?? number("min_p") ?? 0,
    repetitionPenalty: options.repetitionPenalty ?? number("repetition_penalty") ?? 1,
    maxNewTokens: options.maxNewTokens ?? number("max_new_tokens") ?? defaultNewTokens,
    minNewTokens: options.minNewTokens ?? number("min_new_tokens") ?? 0,
    endIds: endTokenIds(file["eos_token_id"]) ?? endTokenIds(config["eos_token_id"]) ?? [],
    stop: options.stop ?? [],
    seed: options.seed ?? 42,
    samples: options.samples ?? 1,
  };
  checkSettings(settings);
  return settings;
}

function endTokenIds(value: unknown): number[] | null {
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  const numbers = ids.filter((id): id is number => typeof id === "number" && Number.isSafeInteger(id));
  return numbers.length > 0 ? numbers : null;
}

/** @throws RerouteError arguments/invalid */
function checkSettings(settings: GenerationSettings): void {
  const whole = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  const rules: [keyof GenerationSettings, boolean, string][] = [
    [
      "temperature",
      settings.temperature > 0 && Number.isFinite(settings.temperature),
      "a number above 0; to take the most likely token each time, leave sampling off (--greedy)",
    ],
    ["topK", whole(settings.topK, 0), "a whole number, 0 for all tokens"],
    ["topP", settings.topP > 0 && settings.topP <= 1, "above 0 and at most 1"],
    ["minP", settings.minP >= 0 && settings.minP < 1, "at least 0 and below 1"],
    ["repetitionPenalty", settings.repetitionPenalty > 0 && Number.isFinite(settings.repetitionPenalty), "above 0"],
    ["maxNewTokens", whole(settings.maxNewTokens, 1), "a whole number of at least 1"],
    [
      "minNewTokens",
      whole(settings.minNewTokens, 0) && settings.minNewTokens <= settings.maxNewTokens,
      `at least 0 and at most the ${settings.maxNewTokens} new tokens there may be`,
    ],
    ["samples", whole(settings.samples, 1), "a whole number of at least 1"],
    ["stop", settings.stop.every((text) => text !== ""), "texts that are not empty"],
  ];
  for (const [key, holds, expected] of rules) {
    if (holds) continue;
    const name = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    throw new RerouteError("arguments/invalid", `${name} is ${JSON.stringify(settings[key])}, expected ${expected}`);
  }
}
