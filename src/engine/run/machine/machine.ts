import { availableParallelism, freemem, totalmem } from "node:os";
import { RerouteError } from "../../../protocol/errors";
import type { Recipe } from "../../../protocol/recipe";
import type { RunFile } from "../../../protocol/run";
import type { RuntimeOptions } from "../../runtime/session";
import { chosenProvider } from "./providerChoice";
import { controlGroupAvailable, readKernelFile } from "./controlGroup";

/** Share of the free memory that a run may use when nobody says otherwise. */
const defaultShare = 0.7;

/** Threads, provider and memory budget of a recipe on this machine; `auto` once prepareProvider has checked what it may be. */
export function runtimeOptions(recipe: Pick<Recipe, "memory" | "threads" | "provider">): RuntimeOptions {
  return {
    threads: recipe.threads ?? availableParallelism(),
    provider: chosenProvider(recipe.provider),
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
  return Math.min(host, controlGroupAvailable(totalmem()) ?? host);
}

/** Resident bytes of this process without mapped files, where the system tells them apart (Linux). */
export function residentBytes(): number {
  const match = /^RssAnon:\s*(\d+) kB/m.exec(readKernelFile("/proc/self/status"));
  return match ? Number(match[1]) * 1024 : process.memoryUsage.rss();
}

/** Bytes this process has read from and written to storage so far; zeros where the system does not tell. */
export function storageBytes(): { read: number; written: number } {
  const text = readKernelFile("/proc/self/io");
  const field = (name: string): number => Number(new RegExp(`^${name}: (\\d+)`, "m").exec(text)?.[1] ?? 0);
  return { read: field("read_bytes"), written: field("write_bytes") };
}

function meminfo(name: string): number | null {
  const match = new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(readKernelFile("/proc/meminfo"));
  return match ? Number(match[1]) * 1024 : null;
}
