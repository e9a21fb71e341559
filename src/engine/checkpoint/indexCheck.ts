import { RerouteError } from "../../protocol/errors";
import type { TensorEntry } from "./checkpoint";
import { malformedIndex, type ShardIndex } from "./indexFile";
import { quote } from "./quote";

/**
 * Makes sure that every tensor is named once by the index, and is in the shard that the index says.
 *
 * @param shards tensors of each opened shard, in file order; no name is in two of them
 * @param tensors all of them by name
 * @throws RerouteError checkpoint/malformed
 */
export function checkIndex(
  index: ShardIndex,
  shards: readonly (readonly TensorEntry[])[],
  tensors: ReadonlyMap<string, TensorEntry>,
  indexName: string,
): void {
  if (isInFileOrder(index, shards)) return;
  const { names, shardOf, shardNames } = index;
  const seen = new Set<string>();
  names.forEach((name, i) => {
    if (seen.size === seen.add(name).size) malformedIndex(indexName, `tensor ${quote(name)} occurs twice`);
    const shardName = shardNames[shardOf[i]!]!;
    const found = tensors.get(name)?.shard.name;
    if (found === shardName) return;
    throw new RerouteError(
      "checkpoint/malformed",
      `${quote(indexName)} says that tensor ${quote(name)} is in ${quote(shardName)}, ${found === undefined ? "no file has it" : `found it in ${quote(found)}`}; download the checkpoint again`,
    );
  });
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
