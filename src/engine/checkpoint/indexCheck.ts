import type { TensorEntry } from "./checkpoint";
import { malformedIndex, type ShardIndex } from "./indexFile";
import { quote } from "./quote";

/** Tensors of a checkpoint by name, and what about its index a user should know. */
export interface IndexedTensors {
  /** In file order. */
  tensors: Map<string, TensorEntry>;
  notes: string[];
}

/**
 * Puts the tensors of all shards together. The index decides where a tensor is in several shards (an overlay over older
 * weights); an entry without a tensor is passed over, and a tensor that the index forgot or puts into another shard is
 * taken, as transformers does, which reads every tensor of every file that the index names. Where the index names no file
 * for a tensor of several shards, the last one by name counts, as there.
 *
 * @param shards tensors of each opened shard, in the order of the files' names
 * @throws RerouteError checkpoint/malformed where the index names a tensor twice
 */
export function placeTensors(
  index: ShardIndex,
  shards: readonly (readonly TensorEntry[])[],
  indexName: string,
): IndexedTensors {
  const tensors = new Map<string, TensorEntry>();
  const doubles = new Map<string, TensorEntry[]>();
  let count = 0;
  for (const entry of shards.flat()) {
    const earlier = tensors.get(entry.name);
    if (tensors.set(entry.name, entry).size === ++count) continue;
    count--;
    const known = doubles.get(entry.name);
    if (known) known.push(entry);
    else doubles.set(entry.name, [earlier!, entry]);
  }
  if (doubles.size === 0 && isInFileOrder(index, shards)) return { tensors, notes: [] };
  return { tensors, notes: followIndex(index, tensors, doubles, indexName) };
}

/** Takes of each tensor in several shards the one that the index names; says what index and shards disagree about. */
function followIndex(
  { names, shardOf, shardNames }: ShardIndex,
  tensors: Map<string, TensorEntry>,
  doubles: ReadonlyMap<string, readonly TensorEntry[]>,
  indexName: string,
): string[] {
  const seen = new Set<string>();
  const [stale, moved, overlaid]: string[][] = [[], [], []];
  names.forEach((name, i) => {
    if (seen.size === seen.add(name).size) malformedIndex(indexName, `tensor ${quote(name)} occurs twice`);
    const shardName = shardNames[shardOf[i]!]!;
    const entry = tensors.get(name);
    if (entry === undefined) return stale!.push(name);
    const named = doubles.get(name)?.find(({ shard }) => shard.name === shardName);
    if (named === undefined) return entry.shard.name === shardName ? 0 : moved!.push(name);
    tensors.set(name, named);
    return named === entry ? 0 : overlaid!.push(name);
  });
  const list = (some: readonly string[]) =>
    `${some.slice(0, 3).map(quote).join(", ")}${some.length > 3 ? ", ..." : ""}`;
  const tensorsIn = (some: readonly unknown[]) => `${some.length} tensor${some.length === 1 ? "" : "s"}`;
  const notes: string[] = [];
  if (stale!.length > 0) {
    notes.push(`${quote(indexName)} names ${tensorsIn(stale!)} that no file has, passed over: ${list(stale!)}`);
  }
  if (moved!.length > 0) {
    notes.push(
      `${quote(indexName)} names another file than the one that has them for ${tensorsIn(moved!)}: ${list(moved!)}`,
    );
  }
  if (doubles.size > 0) {
    notes.push(
      `${tensorsIn([...doubles])} in more than one file, read from the one that ${quote(indexName)} names: ${list([...doubles.keys()])}`,
    );
  }
  if (overlaid!.length > 0) {
    notes.push(
      `transformers reads ${tensorsIn(overlaid!)} from the last file by name, not from the one that ${quote(indexName)} names: ${list(overlaid!)}`,
    );
  }
  return notes;
}

/** Tensors of one dtype that follow each other in a file; those before `next` were named. */
interface Run {
  entries: readonly TensorEntry[];
  next: number;
  end: number;
}

/**
 * Whether the index names the tensors of every shard in the order of the file, those of each dtype by themselves: libraries
 * sort both by name. Then each is there, and is named once, without a table of 100,000 names and a search for each.
 */
function isInFileOrder(
  { names, shardOf, shardNames }: ShardIndex,
  shards: readonly (readonly TensorEntry[])[],
): boolean {
  const byShard = new Map(shards.flatMap((entries) => (entries[0] ? [[entries[0].shard.name, runsOf(entries)]] : [])));
  const runs = shardNames.map((name) => byShard.get(name) ?? []);
  for (let i = 0; i < names.length; i++) if (!takes(runs[shardOf[i]!]!, names[i]!)) return false;
  return true;
}

function takes(runs: Run[], name: string): boolean {
  for (const run of runs) {
    if (run.next >= run.end || run.entries[run.next]!.name !== name) continue;
    run.next++;
    return true;
  }
  return false;
}

/** A shard has one run a dtype where its writer sorted it; one with more of them than any library makes is searched instead. */
const maxRuns = 8;

function runsOf(entries: readonly TensorEntry[]): Run[] {
  const runs: Run[] = [];
  for (let i = 0; i < entries.length && runs.length <= maxRuns; i++) {
    const last = runs.at(-1);
    if (last !== undefined && entries[i]!.dtype === entries[i - 1]!.dtype) last.end = i + 1;
    else runs.push({ entries, next: i, end: i + 1 });
  }
  return runs.length > maxRuns ? [] : runs;
}
