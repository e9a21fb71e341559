import { readFileSync } from "node:fs";

/** Text of a file, empty where it cannot be read: these files exist on Linux only. */
export type ReadText = (file: string) => string;

/**
 * Bytes that the control groups of this process leave it; null where none has a limit below `hostBytes`. A process is under
 * the limits of its own group and of every group above; in a container, the mount shows its own group as the root. The page
 * cache counts as used there, but is given back on demand.
 */
export function controlGroupAvailable(hostBytes: number, read: ReadText = readKernelFile): number | null {
  const left = foldersOf(read("/proc/self/cgroup")).flatMap(({ folder, files }) => {
    const limit = numberOf(read(`${folder}/${files.limit}`));
    if (limit === null || limit >= hostBytes) return [];
    const used = numberOf(read(`${folder}/${files.used}`)) ?? 0;
    const cache = Number(files.cache.exec(read(`${folder}/memory.stat`))?.[1] ?? 0);
    return [Math.max(0, limit - Math.max(0, used - cache))];
  });
  return left.length === 0 ? null : Math.min(...left);
}

interface Files {
  limit: string;
  used: string;
  cache: RegExp;
}

const version1: Files = { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: /^total_cache (\d+)/m };
const version2: Files = { limit: "memory.max", used: "memory.current", cache: /^file (\d+)/m };

/** Folders of the process's groups and of all above them, in both versions of control groups. */
function foldersOf(groups: string): { folder: string; files: Files }[] {
  const pathOf = (line: RegExp): string => line.exec(groups)?.[1] ?? "/";
  return [
    ...withParents(pathOf(/^0::(\/.*)$/m)).map((path) => ({ folder: `/sys/fs/cgroup${path}`, files: version2 })),
    ...withParents(pathOf(/^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m)).map((path) => ({
      folder: `/sys/fs/cgroup/memory${path}`,
      files: version1,
    })),
  ];
}

/** "/a/b" -> "/a/b", "/a", "" */
function withParents(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== "..");
  return [...parts.keys(), parts.length].reverse().map((count) =>
    parts
      .slice(0, count)
      .map((part) => `/${part}`)
      .join(""),
  );
}

/** "max" of version 2 is no number. */
function numberOf(text: string): number | null {
  return /^\d+$/.test(text.trim()) ? Number(text) : null;
}

export function readKernelFile(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
