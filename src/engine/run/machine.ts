import { readFileSync } from "node:fs";
import { availableParallelism, freemem, totalmem } from "node:os";
import { RerouteError } from "../../protocol/errors";
import type { Recipe } from "../../protocol/recipe";
import type { RunFile } from "../../protocol/run";
import type { RuntimeOptions } from "../runtime/session";

/** Share of the free memory that a run may use when nobody says otherwise. */
const defaultShare = 0.7;

/** Threads, provider and memory budget of a recipe on this machine. */
export function runtimeOptions(recipe: Pick<Recipe, "memory" | "threads" | "provider">): RuntimeOptions {
  return {
    threads: recipe.threads ?? availableParallelism(),
    provider: recipe.provider,
    memoryBudgetBytes: recipe.memory === undefined ? defaultMemoryBudget() : parseMemorySize(recipe.memory),
  };
}

/** How a run works: as it was decided when it began (run.json), or as its recipe says on this machine. */
export function runtimeOf({ runtime, recipe }: Pick<RunFile, "runtime" | "recipe">): RuntimeOptions {
  return runtime ?? runtimeOptions(recipe);
}

/**
 * Bytes of "8GiB" (binary), "1.5GB" (decimal), "512 MiB" or "1000".
 * @throws RerouteError `arguments/invalid`
 */
export function parseMemorySize(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B|B)?\s*$/i.exec(text);
  if (!match) {
    throw new RerouteError(
      "arguments/invalid",
      `The memory size is ${JSON.stringify(text)}; give a size such as 8GiB or 512MiB`,
    );
  }
  const [, number, prefix, binary] = match;
  const power = prefix === undefined ? 0 : "KMGT".indexOf(prefix.toUpperCase()) + 1;
  return Math.floor(Number(number) * (binary ? 1024 : 1000) ** power);
}

/** A share of what the host and the control group leave free. */
export function defaultMemoryBudget(): number {
  return Math.floor(availableMemoryBytes() * defaultShare);
}

/** Bytes this process may still take: the smaller of the host's available memory and the control group's rest. */
export function availableMemoryBytes(): number {
  const host = meminfo("MemAvailable") ?? freemem();
  const limit = cgroupNumber("memory.max", "memory/memory.limit_in_bytes");
  if (limit === null || limit >= totalmem()) return host;
  const used = cgroupNumber("memory.current", "memory/memory.usage_in_bytes") ?? 0;
  // The page cache counts as used but is given back on demand.
  const cache = cgroupStat("file") ?? cgroupStat("total_cache") ?? 0;
  return Math.max(0, Math.min(host, limit - Math.max(0, used - cache)));
}

/** Resident bytes of this process without mapped files, where the system tells them apart (Linux). */
export function residentBytes(): number {
  const match = /^RssAnon:\s*(\d+) kB/m.exec(readText("/proc/self/status"));
  return match ? Number(match[1]) * 1024 : process.memoryUsage.rss();
}

/** Bytes this process has read from and written to storage so far; zeros where the system does not tell. */
export function storageBytes(): { read: number; written: number } {
  const text = readText("/proc/self/io");
  const field = (name: string): number => Number(new RegExp(`^${name}: (\\d+)`, "m").exec(text)?.[1] ?? 0);
  return { read: field("read_bytes"), written: field("write_bytes") };
}

function meminfo(name: string): number | null {
  const match = new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(readText("/proc/meminfo"));
  return match ? Number(match[1]) * 1024 : null;
}

function cgroupNumber(v2: string, v1: string): number | null {
  for (const file of [`/sys/fs/cgroup/${v2}`, `/sys/fs/cgroup/${v1}`]) {
    const text = readText(file).trim();
    if (/^\d+$/.test(text)) return Number(text);
  }
  return null;
}

function cgroupStat(name: string): number | null {
  const text = readText("/sys/fs/cgroup/memory.stat") || readText("/sys/fs/cgroup/memory/memory.stat");
  const match = new RegExp(`^${name} (\\d+)`, "m").exec(text);
  return match ? Number(match[1]) : null;
}

/** Empty where the file cannot be read: these files exist on Linux only. */
function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
