import path from "node:path";
import type { Command } from "commander";
import { inspectPath } from "../../engine/model/inspectPath";
import { formatBytes, formatCount } from "../../engine/report/format";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { CliIo } from "../io";
import { safeText, textTable } from "../table";

/** `reroute inspect <checkpoint>`: structure and sizes, from headers alone. */
export function addInspect(program: Command, io: CliIo): void {
  program
    .command("inspect")
    .description("show a checkpoint's structure, from headers alone")
    .argument("<checkpoint>", "checkpoint folder, its config.json, one of its files, or a .gguf file")
    .option("--json", "print the summary as JSON")
    .action(async (checkpoint: string, { json }: { json?: boolean }) => {
      const summary = await inspectPath(path.resolve(io.cwd, checkpoint));
      io.out(json ? `${JSON.stringify(summary, null, 2)}\n` : describe(summary));
    });
}

function describe(summary: CheckpointSummary): string {
  const { layers, provenance } = summary;
  const active = summary.parametersActive === null ? "" : `, ${formatCount(summary.parametersActive)} active`;
  const head = [
    ["Checkpoint", safeText(summary.path)],
    [
      "Family",
      `${safeText(summary.modelType ?? "unknown")}${summary.supported ? "" : ` (not supported: ${safeText(summary.unsupportedReason ?? "")})`}`,
    ],
    ["Parameters", `${formatCount(summary.parametersTotal)}${active}`],
    ["Size", `${formatBytes(summary.bytes)} in ${summary.tensors} tensors, ${summary.shards} files`],
    [
      "dtypes",
      Object.entries(summary.dtypes)
        .map(([name, { tensors }]) => `${name} (${tensors} tensors)`)
        .join(", "),
    ],
    ...(summary.numExpertsPerToken === null ? [] : [["Experts a token", String(summary.numExpertsPerToken)]]),
    ...(provenance
      ? [
          [
            "Made from",
            `${safeText(provenance.teacherPath)} (${provenance.kind}${provenance.method === null ? "" : ` by ${safeText(provenance.method)}`})`,
          ],
        ]
      : []),
  ].map(([label, value]) => `${label!.padEnd(16)} ${value!}\n`);
  const rows = layers.map(({ index, parameters, bytes, moe }) => [
    `layer ${index}`,
    moe ? `${moe.numExperts} experts` : "dense",
    formatCount(parameters),
    formatBytes(bytes),
    moe ? formatBytes(moe.experts.bytes) : "",
  ]);
  const table = rows.length > 0 ? `\n${textTable([["", "kind", "parameters", "size", "experts"], ...rows])}` : "";
  return head.join("") + table;
}
