import type { Command } from "commander";
import { familyTable } from "../../engine/model/families/familyTable";
import type { CliIo } from "../io";

/** `reroute families`: which models are read, which of them can be compressed and calibrated, and what loads the output. */
export function addFamilies(program: Command, io: CliIo): void {
  program
    .command("families")
    .description("list the model families: those with experts, which can be compressed and calibrated, and dense ones")
    .option("--json", "print the table as JSON")
    .option("--markdown", "print the table as Markdown")
    .action((options: { json?: boolean; markdown?: boolean }) => {
      const table = familyTable();
      if (options.json) io.out(`${JSON.stringify(table, null, 2)}\n`);
      else if (options.markdown) io.out(familiesAsMarkdown());
      else {
        for (const { modelType, kind, examples, attention, limits, loadedBy } of table) {
          io.out(
            `${modelType}${kind === "dense" ? " (dense)" : ""}\n  ${examples}\n  ${attention}${limits && `; ${limits}`}; output: ${loadedBy.join(", ")}\n`,
          );
        }
      }
    });
}

/** The table of README.md. */
export function familiesAsMarkdown(): string {
  const rows = familyTable().map(({ modelType, kind, examples, attention, limits, loadedBy }) => [
    `\`${modelType}\``,
    ...[kind, examples, attention, limits || "everything", loadedBy.join(", ")],
  ]);
  const head = ["`model_type`", "Kind", "Checkpoints", "Attention", "Works", "Output loads in"];
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |\n`;
  return [head, head.map(() => "---"), ...rows].map(line).join("");
}
