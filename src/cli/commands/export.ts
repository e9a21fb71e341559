import path from "node:path";
import { Option, type Command } from "commander";
import { exportCheckpoint } from "../../engine/run/exportCheckpoint";
import { runtimeOptions } from "../../engine/run/machine/machine";
import { ggufFileTypes, type GgufFileType } from "../../protocol/gguf";
import { checkpointPath } from "../checkpointPath";
import type { CliIo } from "../io";
import { addMachineOptions, type SharedOptions } from "../options";
import { progressPrinter } from "../progress";

interface ExportOptions extends SharedOptions {
  gguf: string;
  type: GgufFileType;
  dryRun?: boolean;
}

/** `reroute export <checkpoint>`: one GGUF file for llama.cpp. */
export function addExport(program: Command, io: CliIo): void {
  const command = program
    .command("export")
    .description("write a checkpoint as one GGUF file for llama.cpp")
    .argument("<checkpoint>", "checkpoint folder")
    .requiredOption("--gguf <file>", "file to write; must not exist")
    .addOption(
      new Option("--type <type>", "of the routed experts; other matrices are f16, or q8_0 where experts are smaller")
        .choices([...ggufFileTypes])
        .default("q8_0"),
    )
    .option("--dry-run", "say what would be written or refused, and write nothing");
  addMachineOptions(command).action(async (checkpoint: string, options: ExportOptions) => {
    const filePath = path.resolve(io.cwd, options.gguf);
    const progress = progressPrinter(io);
    const made = await exportCheckpoint(
      {
        ...{ path: await checkpointPath(io, checkpoint), file: filePath, type: options.type },
        runtime: runtimeOptions({ provider: "cpu", ...options }),
        dryRun: options.dryRun ?? false,
      },
      { signal: io.signal, report: progress.report },
    );
    progress.end();
    if (options.json) {
      io.out(`${JSON.stringify({ file: filePath, type: options.type, ...made }, null, 2)}\n`);
      return;
    }
    for (const note of made.notes) io.out(`note: ${note}\n`);
    const would = options.dryRun ? "nothing is written; it would be " : "";
    io.out(`${filePath}: ${would}${made.architecture}, ${made.tensors} tensors, ${made.bytes} bytes\n`);
  });
}
