import { mkdir, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import type { TensorEntry } from "../../checkpoint/checkpoint";
import { contentKey } from "../../checkpoint/contentKey";
import { inFileOrder } from "../../checkpoint/headerFormat";
import { openShard } from "../../checkpoint/shardFile";
import { writeShard } from "../../checkpoint/shardWriter";
import { SourceFiles } from "../../checkpoint/sourceFiles";
import type { TensorSource } from "../../checkpoint/tensorSource";

/** The new tensors of one compressed layer, on disk until the checkpoint is written. */
export interface LayerStage {
  /** By the name that the method gave. */
  tensors: ReadonlyMap<string, TensorEntry>;
  /** What was measured while the layer was compressed. */
  metrics: Record<string, number>;
  notes: string[];
}

/**
 * Staged layers of one compression, a file each: a run that is killed goes on with the next layer, and no more than one
 * layer's new weights are ever in memory. A stage is taken again only for the same `inputs`.
 */
export class LayerStages {
  constructor(readonly directory: string) {}

  /** A finished stage of the same inputs, or null. */
  async find(layer: number, inputs: unknown): Promise<LayerStage | null> {
    try {
      const record = JSON.parse(await readFile(this.#path(layer, "json"), "utf8")) as StageRecord;
      if (record.hash !== contentKey(inputs)) return null;
      const { tensors, shard } = await openShard(this.#path(layer, "safetensors"));
      if (shard.metadata["inputs"] !== record.hash) return null;
      const { metrics, notes } = record;
      return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metrics, notes };
    } catch (error) {
      // Absent or torn by a crash: the layer is done again.
      if (error instanceof SyntaxError || error instanceof RerouteError || isMissing(error)) return null;
      throw error;
    }
  }

  /** Writes a layer's tensors one after the other, in the order given; then `finish` says what was found. */
  async write(
    layer: number,
    inputs: unknown,
    tensors: readonly TensorSource[],
    finish: (staged: ReadonlyMap<string, TensorEntry>) => Promise<Pick<LayerStage, "metrics" | "notes">>,
    signal: AbortSignal | undefined,
  ): Promise<LayerStage> {
    await mkdir(this.directory, { recursive: true });
    const hash = contentKey(inputs);
    const target = this.#path(layer, "safetensors");
    const temporary = `${target}.partial`;
    await rm(temporary, { force: true });
    await rm(this.#path(layer, "json"), { force: true });
    const sources = new SourceFiles();
    try {
      await writeShard(temporary, groupedByDtype(tensors), { inputs: hash }, sources, {
        signal,
        onBytes: () => undefined,
      });
    } finally {
      await sources.close();
    }
    await rename(temporary, target);
    const opened = await openShard(target);
    const staged = new Map(opened.tensors.map((tensor) => [tensor.name, tensor]));
    const { metrics, notes } = await finish(staged);
    const record: StageRecord = { hash, metrics, notes };
    await writeFileAtomically(this.#path(layer, "json"), `${JSON.stringify(record)}\n`);
    return { tensors: staged, metrics, notes };
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }

  #path(layer: number, extension: "json" | "safetensors"): string {
    return stageFile(this.directory, layer, extension);
  }
}

/** A stage's tensors, or what is said of them. */
export function stageFile(directory: string, layer: number, extension: "json" | "safetensors"): string {
  return path.join(directory, `layer-${layer}.${extension}`);
}

interface StageRecord {
  hash: string;
  metrics: Record<string, number>;
  notes: string[];
}

/** Wide dtypes first, so that each tensor starts at a multiple of its element size; otherwise in the order given. */
function groupedByDtype(tensors: readonly TensorSource[]): TensorSource[] {
  const order = inFileOrder(tensors.map(({ dtype }) => ({ name: "", dtype, shape: [] }))).map(({ dtype }) => dtype);
  return [...new Set(order)].flatMap((dtype) => tensors.filter((tensor) => tensor.dtype === dtype));
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}
