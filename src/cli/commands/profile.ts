import path from "node:path";
import type { Command } from "commander";
import { routingPanel } from "../../engine/report/panels";
import { formatOptional } from "../../engine/report/format";
import { formatCount, formatNumber, formatPercent } from "../../protocol/quantities";
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
    );
  addSpreadOptions(addMachineOptions(addDataOptions(command, 3000))).action(
    async (checkpoint: string, options: ProfileOptions) => {
      const runDirectory = path.resolve(io.cwd, options.out);
      const recipe = recipeFrom(io.cwd, options, {
        teacher: await checkpointPath(io, checkpoint),
        calibration: path.resolve(io.cwd, options.data),
        // A profile writes no checkpoint; the recipe's schema asks for a place all the same.
        output: path.join(runDirectory, "checkpoint"),
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
  const { tokens, numExperts, numExpertsPerToken, domains, neverUsed } = routing;
  const domainTokens = Object.fromEntries(domains.map((name) => [name, routing.byDomain[name]!.tokens]));
  return {
    runDirectory,
    tokens,
    numExperts,
    numExpertsPerToken,
    domainTokens,
    neverUsed,
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
  return `${formatCount(routing.tokens)} tokens profiled\n\n${textTable([head, ...rows])}\nStatistics: ${path.join(runDirectory, "routing-statistics.safetensors")}\n`;
}
