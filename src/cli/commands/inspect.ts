import type { Command } from "commander";
import { inspectPath } from "../../engine/model/inspect";
import { formatBytes, formatCount } from "../../protocol/quantities";
import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { CliIo } from "../io";
import { checkpointPath } from "../checkpointPath";
import { safeText, textTable } from "../table";

/** `reroute inspect <checkpoint>`: structure and sizes, from headers alone. */
export function addInspect(program: Command, io: CliIo): void {
  program
    .command("inspect")
    .description("show a checkpoint's structure, from headers alone")
    .argument(
      "<checkpoint>",
      "checkpoint folder, its config.json, one of its files, a .gguf file, or org/name of a model in the Hugging Face cache",
    )
    .option("--json", "print the summary as JSON")
    .action(async (checkpoint: string, { json }: { json?: boolean }) => {
      const summary = await inspectPath(await checkpointPath(io, checkpoint));
      io.out(json ? `${JSON.stringify(summary, null, 2)}\n` : describe(summary));
    });
}

function describe(summary: CheckpointSummary): string {
  const rows = summary.layers.map(({ index, parameters, bytes, moe }) => [
    `layer ${index}`,
    moe ? plural(moe.numExperts, "expert") + (moe.sharedExperts ? " + shared" : "") : "dense",
    formatCount(parameters),
    formatBytes(bytes),
    moe ? formatBytes(moe.experts.bytes) : "",
    moe ? formatBytes(moe.router.bytes) : "",
  ]);
  const table =
    rows.length > 0 ? `\n${textTable([["", "kind", "parameters", "size", "experts", "router"], ...rows])}` : "";
  return (
    headOf(summary)
      .map(([label, value]) => `${label.padEnd(16)} ${value}\n`)
      .join("") + table
  );
}

/** Labelled lines; text from files is made harmless. */
function headOf(summary: CheckpointSummary): [label: string, value: string][] {
  const { provenance, parametersActive, parametersTotal } = summary;
  const active = parametersActive === null ? "" : `, ${formatCount(parametersActive)} active`;
  const dtypes = Object.entries(summary.dtypes).map(
    ([name, { tensors, bytes }]) => `${name} (${plural(tensors, "tensor")}, ${formatBytes(bytes)})`,
  );
  const method = provenance?.method ? ` by ${safeText(provenance.method)}` : "";
  return [
    ["Checkpoint", safeText(summary.path)],
    ["Family", safeText(summary.modelType ?? "unknown")],
    ...(summary.supported
      ? []
      : [
          [summary.isDense ? "Dense" : "Inspection only", safeText(summary.unsupportedReason ?? "")] satisfies [
            string,
            string,
          ],
        ]),
    ["Parameters", `${formatCount(parametersTotal)}${active}`],
    [
      "Size",
      `${formatBytes(summary.bytes)} in ${plural(summary.tensors, "tensor")}, ${plural(summary.shards, "file")}`,
    ],
    ["Stored as", dtypes.join(", ")],
    ["Experts", expertsLine(summary)],
    ...summary.otherParts.map(({ name, layers, parameters }, i): [string, string] => [
      i === 0 ? "Beside them" : "",
      `${safeText(name)}: ${plural(layers, "layer")}, ${formatCount(parameters)} parameters`,
    ]),
    ...unreadLines(summary),
    ...summary.notes.map((note): [string, string] => ["Note", safeText(note)]),
    ...(provenance
      ? [["Made from", `${safeText(provenance.teacherPath)} (${provenance.kind}${method})`] satisfies [string, string]]
      : []),
  ];
}

/** Lines shown of groups that nothing reads; --json has all. */
const maxUnreadLines = 6;

/** What the forward pass does not read: weights of the decoder, without which results are wrong, and what may be left out. */
function unreadLines({ unread }: CheckpointSummary): [label: string, value: string][] {
  const lines = unread
    .slice(0, maxUnreadLines)
    .map(({ pattern, tensors, parameters, ofDecoder }): [string, string] => [
      ofDecoder ? "WARNING" : "Not read",
      `${safeText(pattern)}: ${plural(tensors, "tensor")}, ${formatCount(parameters)} parameters${ofDecoder ? ", read by nothing although the decoder has them: is model_type right?" : ""}`,
    ]);
  const rest = unread.slice(maxUnreadLines);
  if (rest.length === 0) return lines;
  const tensors = rest.reduce((sum, group) => sum + group.tensors, 0);
  return [...lines, ["Not read", `${plural(tensors, "further tensor")} (--json lists them)`]];
}

/** "16 in 2 of 3 layers, 2 a token; router model.layers.1.mlp.gate.weight": what there is to compress and calibrate. */
function expertsLine({ layers, numExpertsPerToken }: CheckpointSummary): string {
  const sparse = layers.flatMap(({ moe }) => (moe ? [moe] : []));
  const [first] = sparse;
  if (!first) return "none: no layer has experts, so there is no router to calibrate";
  const counts = [...new Set(sparse.map(({ numExperts }) => numExperts))].sort((a, b) => a - b);
  const each = counts.length > 1 ? `${counts[0]} to ${counts.at(-1)}` : String(counts[0]);
  const perToken = numExpertsPerToken === null ? "" : `, ${numExpertsPerToken} a token`;
  const router = first.routerTensor === "" ? "; no router tensor found" : `; router ${safeText(first.routerTensor)}`;
  return `${each} in ${sparse.length} of ${plural(layers.length, "layer")}${perToken}${router}`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
