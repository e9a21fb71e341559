import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createRandom, type Random } from "../../src/engine/tensor/random";
import { errorCodeOf, RerouteError } from "../../src/protocol/errors";
import { fuzzCases } from "../support/nightly";
import { processorMs } from "../support/processorTime";

/** Cases of all kinds of a suite together; the nightly form asks for 20,000. A failing case is repeated by its seed. */
export function casesOf(kinds: number): number {
  return Math.ceil(fuzzCases / kinds);
}

const limitMs = 2000;
const limitBytes = 500e6;
const corpus = path.resolve("test/corpus");

export interface FuzzKind {
  /** Folder name in test/corpus. */
  name: string;
  make: (random: Random) => Uint8Array;
  /** Reads hostile bytes: a result, or an error. A wrong result is thrown as an error that is none of ours. */
  read: (bytes: Uint8Array) => unknown;
}

/**
 * Runs the kept cases of a kind, then `count` new ones: each must end in a typed error or a result within two seconds and
 * 500 MB, and leave Object.prototype alone. A case that does not is kept in test/corpus, named by its seed.
 *
 * @returns how often each outcome was: "result", or an error's code
 */
export async function runCases(kind: FuzzKind, count: number): Promise<Record<string, number>> {
  const outcomes: Record<string, number> = {};
  for (const [name, bytes] of corpusOf(kind.name)) await runCase(kind, bytes, name);
  for (let seed = 0; seed < count; seed++) {
    const bytes = kind.make(createRandom(seed, streamOf(kind.name)));
    try {
      const outcome = await runCase(kind, bytes, `seed ${seed}`);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    } catch (error) {
      keep(kind.name, seed, bytes);
      throw error;
    }
  }
  return outcomes;
}

/** The limit counts processor time; one that takes too long has two more tries, since garbage is collected in some case. */
async function runCase(kind: FuzzKind, bytes: Uint8Array, label: string, tries = 3): Promise<string> {
  const { name, read } = kind;
  const failed = (problem: string, cause?: unknown) => new Error(`${name}, ${label}: ${problem}`, { cause });
  const { rss } = process.memoryUsage();
  const started = processorMs();
  let outcome = "result";
  try {
    await read(bytes);
  } catch (error) {
    if (!(error instanceof RerouteError) || errorCodeOf(error) === "internal") throw failed(String(error), error);
    if (error.message.length > 2000) throw failed(`its message has ${error.message.length} characters`);
    outcome = error.code;
  }
  const elapsed = processorMs() - started;
  if (elapsed > limitMs && tries > 1) return runCase(kind, bytes, label, tries - 1);
  if (elapsed > limitMs) throw failed(`took ${Math.round(elapsed)} ms`);
  const grown = process.memoryUsage().rss - rss;
  if (grown > limitBytes) throw failed(`took ${Math.round(grown / 1e6)} MB`);
  if (Object.keys(Object.prototype).length > 0) throw failed("polluted Object.prototype");
  return outcome;
}

function* corpusOf(kind: string): Generator<[string, Uint8Array]> {
  const folder = path.join(corpus, kind);
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder).sort()) yield [name, readFileSync(path.join(folder, name))];
}

function keep(kind: string, seed: number, bytes: Uint8Array): void {
  mkdirSync(path.join(corpus, kind), { recursive: true });
  writeFileSync(path.join(corpus, kind, `seed-${seed}.bin`), bytes);
}

/** Another stream of random numbers for each kind. */
function streamOf(name: string): number {
  return Buffer.from(name).reduce((sum, byte) => (sum * 31 + byte) % 1_000_003, 7);
}
