import { readFile } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { noLabels, runLabels, type RunLabels } from "../../../protocol/labels";
import { runFiles } from "../../../protocol/run";
import { writeFileAtomically } from "../../checkpoint/atomicFile";

/** What people call a run or comparison; nothing where nobody has said, or where the file is damaged. */
export async function readLabels(directory: string): Promise<RunLabels> {
  try {
    const parsed = runLabels.safeParse(JSON.parse(await readFile(path.join(directory, runFiles.labels), "utf8")));
    return parsed.success ? parsed.data : noLabels;
  } catch {
    return noLabels;
  }
}

/**
 * Changes labels; what is not given stays as it is.
 * @throws RerouteError `arguments/invalid` for a name or tags that are too long or too many, output/write-failed
 */
export async function writeLabels(directory: string, labels: Partial<Pick<RunLabels, "name" | "tags">>): Promise<void> {
  const parsed = runLabels.safeParse({ ...(await readLabels(directory)), ...labels });
  if (!parsed.success) {
    const { path: keys, message } = parsed.error.issues[0]!;
    throw new RerouteError("arguments/invalid", `The label ${keys.join(".")} cannot be used: ${message}`);
  }
  await writeFileAtomically(path.join(directory, runFiles.labels), `${JSON.stringify(parsed.data, null, 2)}\n`);
}
