import path from "node:path";
import { Option, type Command } from "commander";
import { routingPanel } from "../../engine/report/panels";
import { previewNote } from "../../engine/report/previewNote";
import { formatOptional } from "../../engine/report/format";
import { formatCount, formatNumber, formatPercent } from "../../protocol/quantities";
import { precisions, type Precision } from "../../protocol/recipe";
import type { RoutingPanelData } from "../../protocol/panels";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addDataOptions, addMachineOptions, dataHelp, recipeFrom, type SharedOptions } from "../options";
import { addSpreadOptions, type SpreadOptions } from "../queueOptions";
import { runInFolder } from "../runInFolder";
import { textTable } from "../table";

interface ProfileOptions extends SharedOptions, SpreadOptions {
  data: string;
  out: string;
  precision?: Precision;
}

/** `reroute profile <checkpoint>`: how a model's experts are used on a text. */
export function addProfile(program: Command, io: CliIo): void {
  const command = program
    .command("profile")
    .description("collect routing statistics on a text")
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--data <file>", `text: ${dataHelp}`)
    .requiredOption(
      "--out <dir>",
      "run folder to write routing-statistics.safetensors to; continued where it holds this profile",
    )
    .addOption(
      new Option(
        "--precision <kind>",
        "preview: experts' products in 8-bit integers, faster and approximate (default: exact)",
      ).choices([...precisions]),
    );
  addSpreadOptions(addMachineOptions(addDataOptions(command, 3000))).action(
    async (checkpoint: string, options: ProfileOptions) => {
      const runDirectory = path.resolve(io.cwd, options.out);
      const recipe = recipeFrom(io.cwd, options, {
        teacher: await checkpointPath(io, checkpoint),
        calibration: path.resolve(io.cwd, options.data),
        // A profile writes no checkpoint; the recipe's schema asks for a place all the same.
        output: path.join(runDirectory, "checkpoint"),
        precision: options.precision,
      });
      await runInFolder(io, { runDirectory, recipe, baseFolder: io.cwd }, options);
      const routing = (await routingPanel(runDirectory))!;
      io.out(
        options.json ? `${JSON.stringify(summary(routing, runDirectory), null, 2)}\n` : describe(routing, runDirectory),
      );
    },
  );
}

function summary(routing: RoutingPanelData, runDirectory: string): object {
  const { tokens, numExperts, numExpertsPerToken, domains, neverUsed, preview } = routing;
  const domainTokens = Object.fromEntries(domains.map((name) => [name, routing.byDomain[name]!.tokens]));
  return {
    runDirectory,
    tokens,
    numExperts,
    numExpertsPerToken,
    domainTokens,
    neverUsed,
    ...(preview ? { preview } : {}),
    layers: routing.byDomain[""]!.layers,
  };
}

function describe(routing: RoutingPanelData, runDirectory: string): string {
  const rows = routing.byDomain[""]!.layers.map((layer) => [
    String(layer.layer),
    formatNumber(layer.coefficientOfVariation),
    formatNumber(layer.normalisedEntropy),
    String(layer.neverUsed),
    formatOptional(layer.selectedMass, formatPercent),
    formatOptional(layer.topKMargin, formatNumber),
  ]);
  const head = [
    "layer",
    "coefficient of variation",
    "normalised entropy",
    "never used",
    "selected mass",
    "top-k margin",
  ];
  return `${formatCount(routing.tokens)} tokens profiled\n${routing.preview ? `${previewNote(routing.preview)}\n` : ""}\n${textTable([head, ...rows])}\nStatistics: ${path.join(runDirectory, "routing-statistics.safetensors")}\n`;
}
