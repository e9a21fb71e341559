import path from "node:path";
import { runFiles } from "../../protocol/run";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { distillationCsv } from "./distillationTables";
import { renderHtml } from "./html";
import { renderMarkdown } from "./markdown";
import { readReportData } from "./reportData";

/** Writes report.html and report.md from the other files of a run folder. */
export async function writeReport(runDirectory: string): Promise<void> {
  const data = await readReportData(runDirectory);
  if (data.distillation)
    await writeFileAtomically(path.join(runDirectory, runFiles.distillationTable), distillationCsv(data.distillation));
  await writeFileAtomically(path.join(runDirectory, runFiles.report), renderHtml(data));
  await writeFileAtomically(path.join(runDirectory, runFiles.reportMarkdown), renderMarkdown(data));
}
