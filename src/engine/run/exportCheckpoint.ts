import type { ExportedGguf, GgufFileType } from "../../protocol/gguf";
import type { ReportProgress } from "../../protocol/progress";
import { exportGguf } from "../export/exportGguf";
import { refuseExistingFile } from "../gguf/write";
import type { RuntimeOptions } from "../runtime/session";
import { openModel } from "./modelCache";

/** Writes a checkpoint folder as a GGUF file that must not exist. @throws as openModel and exportGguf */
export async function exportCheckpoint(
  request: { path: string; file: string; type: GgufFileType; runtime: RuntimeOptions; dryRun?: boolean },
  hooks: { signal?: AbortSignal | undefined; report?: ReportProgress | undefined } = {},
): Promise<ExportedGguf> {
  await refuseExistingFile(request.file);
  const { checkpoint, description } = await openModel(request.path);
  const { file: filePath, type, runtime, dryRun = false } = request;
  return exportGguf({ checkpoint, description, filePath, type, runtime, dryRun, ...hooks });
}
