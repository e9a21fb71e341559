import type { TileInHand } from "../../../protocol/workers";
import type { Tile } from "./tile";

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
      return {
        pass: kind === "evaluate-teacher" ? "evaluate" : kind,
        bounds: { unit: "sequences", from, to },
      };
    }
  }
}
