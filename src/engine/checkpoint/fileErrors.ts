import { RerouteError, type ErrorCode } from "../../protocol/errors";
import { quote } from "./quote";

/**
 * An error of the operating system while reading, as one of ours: a missing file is `checkpoint/not-found`, and so is
 * one that may not be read; a failing disk counts as truncated.
 */
export function readError(error: unknown, path: string): RerouteError {
  if (error instanceof RerouteError) return error;
  const { code = "", message = String(error) } = error as Partial<NodeJS.ErrnoException>;
  const [ours, text] = readProblems[code] ?? ["checkpoint/not-found", message];
  return new RerouteError(ours, `cannot read ${quote(path)}: ${text}`, { cause: error });
}

const readProblems: Record<string, [ErrorCode, string] | undefined> = {
  ENOENT: ["checkpoint/not-found", "no such file or folder; check the path"],
  ENOTDIR: ["checkpoint/not-found", "a part of the path is not a folder; check the path"],
  ELOOP: ["checkpoint/not-found", "its symbolic links lead in a circle"],
  EACCES: ["checkpoint/not-found", "permission denied; check the file's owner and mode"],
  EPERM: ["checkpoint/not-found", "permission denied; check the file's owner and mode"],
  EISDIR: ["checkpoint/not-found", "it is a folder, a file was expected"],
  EMFILE: ["checkpoint/not-found", "too many open files; raise the limit (ulimit -n)"],
  EIO: ["checkpoint/truncated", "the disk reported a read error; check the disk, then download the file again"],
};
