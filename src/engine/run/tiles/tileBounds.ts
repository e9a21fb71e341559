import type { TileInHand } from "../../../protocol/workers";
import type { Tile } from "./tile";

/** What a tile is a part of and covers, for people. */
export function inHand(tile: Tile): TileInHand {
  switch (tile.kind) {
    case "profile":
      return { pass: "profile", bounds: { unit: "sequences", from: tile.from, to: tile.to } };
    case "gradient":
      return { pass: "gradient", bounds: { unit: "batch", from: tile.at, to: tile.at + tile.numbers.length } };
  }
}
