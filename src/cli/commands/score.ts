import path from "node:path";
import type { Command } from "commander";
import type { ResponseScores } from "../../engine/run/scoreResponses";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addMachineOptions, dataHelp, toInteger, toNumber, type SharedOptions } from "../options";
import { textTable } from "../table";

interface ScoreOptions extends SharedOptions {
  data: string;
  most: number;
  seeds: number[];
  maxNewTokens?: number;
  temperature?: number;
  topP?: number;
}

/** `reroute score <checkpoint>`: ROUGE-L of responses to instructions, over several seeds. */
export function addScore(program: Command, io: CliIo): void {
  const command = program
    .command("score")
    .description("compare sampled responses to instructions with their answers (ROUGE-L), over several seeds")
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--data <file>", `instructions with their answers: ${dataHelp}`)
    .option("--column <key>", "column with the messages (default: told from the columns there are)")
    .option("--tokenizer <dir>", "folder with tokenizer.json and chat template (default: the checkpoint)")
    .option("--most <n>", "instructions used, in file order", toInteger(1), 500)
    .option("--seeds <list>", "seeds of sampling", (text) => text.split(",").map(toInteger(0)), [10, 20, 30, 40, 50])
    .option(
      "--max-new-tokens <n>",
      "tokens a response may have (default: generation_config.json, else 256)",
      toInteger(1),
    )
    .option("--temperature <t>", "of sampling (default: generation_config.json, else 1)", toNumber)
    .option("--top-p <share>", "sample among the fewest tokens with this share of the probability", toNumber);
  addMachineOptions(command).action(async (checkpoint: string, options: ScoreOptions) => {
    const { scoreResponses } = await import("../../engine/run/scoreResponses");
    const { data, column, tokenizer, most, seeds, maxNewTokens, temperature, topP, memory, threads } = options;
    const sampling = Object.entries({ maxNewTokens, temperature, topP }).filter(([, value]) => value !== undefined);
    const scores = await scoreResponses(
      {
        ...{ checkpoint: await checkpointPath(io, checkpoint), data: path.resolve(io.cwd, data), column, most, seeds },
        ...(tokenizer === undefined ? {} : { tokenizer: path.resolve(io.cwd, tokenizer) }),
        ...(memory === undefined ? {} : { memory }),
        ...(threads === undefined ? {} : { threads }),
        options: Object.fromEntries(sampling),
      },
      { signal: io.signal, onEvent: () => undefined },
    );
    io.out(options.json ? `${JSON.stringify(scores, null, 2)}\n` : describe(scores));
  });
}

function describe({ prompts, bySeed, mean, deviation }: ResponseScores): string {
  const rows = bySeed.map(({ seed, rougeL }) => [String(seed), rougeL.toFixed(2)]);
  return (
    `${prompts} instructions, ROUGE-L F times 100\n\n${textTable([["Seed", "ROUGE-L"], ...rows])}\n` +
    `Mean ${mean.toFixed(2)}, standard deviation over seeds ${deviation.toFixed(2)}\n`
  );
}
