import type { TileInHand } from "../../../protocol/workers";
import type { LayerRange, Tile } from "./tile";

/** One part of the layers, counted from 1, such as 2/8. */
export function partName({ part, parts }: Pick<LayerRange, "part" | "parts">): string {
  return `${part + 1}/${parts}`;
}

/** What a tile is a part of and covers, for people. */
export function inHand(tile: Tile): TileInHand {
  switch (tile.kind) {
    case "gradient":
      return { pass: "gradient", bounds: { unit: "batch", from: tile.at, to: tile.at + tile.numbers.length } };
    case "cosines":
    case "compress":
      return { pass: tile.kind, bounds: { unit: "layers", from: tile.layer, to: tile.layer + 1 } };
    default: {
      const { kind, from, to } = tile;
      const layers = "layers" in tile && tile.layers ? { layers: partName(tile.layers) } : {};
      return {
        pass: kind === "evaluate-teacher" ? "evaluate" : kind,
        bounds: { unit: "sequences", from, to },
        ...layers,
      };
    }
  }
}
