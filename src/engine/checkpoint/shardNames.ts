import { RerouteError } from "../../protocol/errors";
import { quote } from "./quote";

/**
 * Refuses names from an index (or of files to write) that could lead out of the folder. A download cache may well hold
 * symbolic links that lead elsewhere: the user made those, the index did not.
 *
 * @throws RerouteError checkpoint/unsafe-path
 */
export function checkFileName(name: string, namedBy: string): void {
  const problem =
    name === "" || name === "." || name === ".."
      ? "is not a file name"
      : /[/\\]/.test(name)
        ? "contains a path separator"
        : name.includes("\0")
          ? "contains a NUL character"
          : name.includes(":")
            ? "contains a colon, which names a drive or stream on Windows"
            : name.length > 255
              ? "is longer than 255 characters"
              : undefined;
  if (problem === undefined) return;
  throw new RerouteError(
    "checkpoint/unsafe-path",
    `${quote(namedBy)} names the file ${quote(name)}, which ${problem}; expected a plain name of a file in the same folder`,
  );
}
