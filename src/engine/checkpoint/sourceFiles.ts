import type { Shard } from "./checkpoint";
import { checkUnchanged, type ShardHandle } from "./shardFile";
import { readError, openRegularFile, readInto } from "./smallFile";

/** Far below the usual limit of 1024 open files. */
const maxOpenFiles = 64;

/** Shards that are being read from, kept open; each is checked for changes when opened and when closed. */
export class SourceFiles {
  private readonly open = new Map<Shard, ShardHandle>();

  /** @throws RerouteError checkpoint/changed, /truncated, /not-found */
  async readInto(shard: Shard, position: number, out: Uint8Array): Promise<void> {
    try {
      await readInto(await this.handleOf(shard), shard.realPath, position, out);
    } catch (error) {
      throw readError(error, shard.realPath);
    }
  }

  /** Closes every file; the first that changed while it was open is an error. */
  async close(): Promise<void> {
    const results = await Promise.allSettled([...this.open].map(([shard, handle]) => closeChecked(shard, handle)));
    this.open.clear();
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  private async handleOf(shard: Shard): Promise<ShardHandle> {
    const known = this.open.get(shard);
    if (known) return known;
    if (this.open.size >= maxOpenFiles) {
      const [oldest] = this.open;
      this.open.delete(oldest![0]);
      await closeChecked(...oldest!);
    }
    const handle = await openRegularFile(shard.realPath);
    this.open.set(shard, handle);
    checkUnchanged(shard, await handle.stat());
    return handle;
  }
}

async function closeChecked(shard: Shard, handle: ShardHandle): Promise<void> {
  try {
    checkUnchanged(shard, await handle.stat());
  } finally {
    await handle.close();
  }
}
