import path from "node:path";
import { shellWord } from "../../protocol/shellWord";

/**
 * An output folder for doing a run again: beside the first one under the next free number; where that lies inside the run's own
 * folder, as a comparison's cells have it, `otherwise`.
 */
export function sameElsewhere(
  output: string,
  runDirectory: string,
  otherwise: string,
  exists: (folder: string) => boolean,
): string {
  if (output.startsWith(runDirectory + path.sep)) return otherwise;
  return nextFree(output, exists);
}

/** "out" -> "out-2", "out-2" -> "out-3": the first that is not there. What is not there yet stays. */
export function nextFree(folder: string, exists: (folder: string) => boolean): string {
  if (!exists(folder)) return folder;
  const [, base = folder, number = "1"] = /^(.*?)(?:-(\d+))?$/s.exec(folder) ?? [];
  let n = Number(number) + 1;
  while (exists(`${base}-${n}`)) n++;
  return `${base}-${n}`;
}

/**
 * What a terminal takes to continue a run, or, with an output of its own, to do it again beside it.
 * @param program the command line's script
 */
export function commandLine(
  program: string,
  runDirectory: string,
  newOutput: string | null,
  exists: (folder: string) => boolean,
  platform: NodeJS.Platform,
): string {
  const again = newOutput === null ? [] : ["--run", nextFree(runDirectory, exists), "--output", newOutput];
  return ["node", program, "run", runDirectory, ...again].map((word) => shellWord(word, platform)).join(" ");
}
