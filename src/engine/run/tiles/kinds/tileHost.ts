import type { TokenSequences } from "../../../data/sequences";
import type { RuntimeOptions } from "../../../runtime/session";
import type { OpenModel } from "../../work";
import { wholeTile, type Carrier, type TileEvents } from "../carrier";
import type { InputFile } from "../inputFiles";
import { keyed, type Tile, type TileOf, type TileResult } from "../tile";
import type { TileStore } from "../tileStore";

/** What the work on a tile is done with, at a worker. */
export interface TileHost {
  runtime: RuntimeOptions;
  store: TileStore;
  scratchDirectory: string;
  signal: AbortSignal;
  /** Called after each chunk of a layer. */
  onChunk: () => void;
  /** @throws RerouteError checkpoint/changed */
  model: (named: NamedModel) => Promise<OpenModel>;
  /** The text of a tile, kept from tile to tile. */
  sequences: (text: InputFile) => Promise<TokenSequences>;
}

/** A checkpoint as the coordinator sees it. */
export interface NamedModel {
  path: string;
  fingerprint: string;
}

/** What a coordinator asks for tiles with. */
export interface TileDesk {
  carrier: Carrier;
  store: TileStore;
  events: TileEvents;
  /** Parts that passes of the teacher are cut into by layers; absent: one. */
  layerParts?: number;
  signal: AbortSignal;
}

/** A tile without what every tile has. */
type Own<T extends Tile> = Omit<T, "key" | "protocol" | "folder" | "numerics" | "kind">;

/** A tile of one kind, named by what decides its bytes. */
export function tileOf<K extends Tile["kind"]>(
  { store, carrier }: Pick<TileDesk, "store" | "carrier">,
  kind: K,
  own: Own<TileOf<K>>,
): TileOf<K> {
  const tile = { ...own, kind, folder: store.folder, numerics: carrier.numerics } as unknown as Parameters<
    typeof keyed
  >[0];
  return keyed(tile) as TileOf<K>;
}

export function ask(tile: Tile, { store, carrier, signal, events }: TileDesk): Promise<TileResult> {
  return wholeTile(tile, store, carrier, signal, events);
}

export function namedModel({ checkpoint, fingerprint }: OpenModel): NamedModel {
  return { path: checkpoint.directory, fingerprint };
}
