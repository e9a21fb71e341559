import path from "node:path";
import { Option, type Command } from "commander";
import { routingPanel } from "../../engine/report/panels";
import { formatCount, formatNumber } from "../../protocol/quantities";
import { traceFormats, type TraceFormat } from "../../engine/routing/trace/readTrace";
import { importTrace } from "../../engine/run/importTrace";
import type { CliIo } from "../io";
import { toInteger } from "../options";
import { textTable } from "../table";

interface ImportTraceOptions {
  format: TraceFormat | "auto";
  out: string;
  checkpoint?: string;
  expertsPerToken?: number;
  json?: boolean;
}

/** `reroute import-trace <file>`: routing that another program recorded, as a run that the Routing panel shows. */
export function addImportTrace(program: Command, io: CliIo): void {
  program
    .command("import-trace")
    .description("show routing that vLLM, SGLang or llama.cpp recorded in the Routing panel")
    .argument("<trace>", "trace file, or a folder with SGLang's .csv files")
    .requiredOption("--out <dir>", "run folder to write; must not exist or be empty")
    .addOption(new Option("--format <name>", "what recorded it").choices(["auto", ...traceFormats]).default("auto"))
    .option("--checkpoint <dir>", "the checkpoint it was recorded with: gives layers and experts their numbers")
    .option("--experts-per-token <n>", "for sums of experts, where no checkpoint is given", toInteger(1))
    .option("--json", "print the result as JSON")
    .action(async (file: string, options: ImportTraceOptions) => {
      const { format, checkpoint, expertsPerToken } = options;
      const result = await importTrace({
        file: path.resolve(io.cwd, file),
        format,
        runDirectory: path.resolve(io.cwd, options.out),
        ...(checkpoint === undefined ? {} : { checkpoint: path.resolve(io.cwd, checkpoint) }),
        ...(expertsPerToken === undefined ? {} : { numExpertsPerToken: expertsPerToken }),
      });
      const routing = (await routingPanel(result.runDirectory))!;
      const { tokens, numExperts, numExpertsPerToken, neverUsed } = routing;
      const layers = routing.byDomain[""]!.layers;
      if (options.json) {
        io.out(
          `${JSON.stringify({ ...result, tokens, numExperts, numExpertsPerToken, neverUsed, layers }, null, 2)}\n`,
        );
        return;
      }
      for (const note of result.notes) io.err(`note: ${note}\n`);
      const rows = layers.map((layer) => [
        String(layer.layer),
        formatNumber(layer.coefficientOfVariation),
        formatNumber(layer.normalisedEntropy),
        String(layer.neverUsed),
      ]);
      const head = ["layer", "coefficient of variation", "normalised entropy", "never used"];
      io.out(
        `${formatCount(tokens)} tokens of a trace of ${result.format}: ${numExperts} experts, ${numExpertsPerToken} a token\n\n` +
          `${textTable([head, ...rows])}\nRun folder: ${result.runDirectory}\n`,
      );
    });
}
