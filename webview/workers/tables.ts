import type { WorkersPanelData } from "../../src/protocol/workersPanel";
import { bytes, count, decimal, duration, percent } from "../common/format";
import type { TableColumn, TableModel } from "../common/tableModel";
import { busyShare, efficiencyOf } from "./spread";

type Cell = string | number | null;

/** A table of rows that are looked up when they are in sight. */
function tableOf<Row>(
  caption: string,
  columns: readonly [label: string, cell: (row: Row) => Cell, format?: TableColumn["format"]][],
  rows: readonly Row[],
): TableModel {
  return {
    caption,
    columns: columns.map(([label, , format]) => ({ label, ...(format ? { format } : {}) })),
    rowCount: rows.length,
    cell: (row, column) => columns[column]![1](rows[row]!),
  };
}

const rate = (value: number | null): string => decimal(value, 3);
const seconds = duration;

/** One row a worker, in the order of `places`. */
export function workerTable({ workers }: WorkersPanelData, places: readonly number[]): TableModel {
  return tableOf(
    "Workers of this run",
    [
      ["Worker", ({ name }) => name],
      ["Host", ({ host }) => host],
      ["State", ({ state, reason, tile }) => (reason === null ? (tile ?? state) : `not eligible: ${reason}`)],
      ["Threads", ({ threads }) => (threads > 0 ? threads : null), count],
      ["Tiles", ({ tiles }) => tiles, count],
      ["Repeated", ({ repeated }) => repeated, count],
      ["Tokens/s", ({ tokensPerSecond }) => tokensPerSecond, rate],
      ["Busy", busyShare, percent],
      ["Efficiency", efficiencyOf, percent],
      ["There", ({ presentSeconds }) => presentSeconds, seconds],
    ],
    places.map((place) => workers[place]!),
  );
}

/** One row a pass. */
export function passTable({ passes }: WorkersPanelData): TableModel {
  return tableOf(
    "Passes over tiles",
    [
      ["Pass", ({ pass }) => pass],
      ["Tiles done", ({ done }) => done, count],
      ["Left", ({ left }) => left, count],
      ["Repeated", ({ repeated }) => repeated, count],
      ["Time of tiles", ({ tileSeconds }) => tileSeconds, seconds],
      ["Time from first to last", ({ wallSeconds }) => wallSeconds, seconds],
      [
        "Workers at work, mean",
        ({ tileSeconds, wallSeconds }) => (wallSeconds > 0 ? tileSeconds / wallSeconds : null),
        (value) => decimal(value, 3),
      ],
    ],
    passes,
  );
}

/** One row a finished tile of these workers, in order of time. */
export function tileTable({ workers, passes, tiles, units }: WorkersPanelData, shown: ReadonlySet<number>): TableModel {
  const rows = [...tiles.worker.keys()].filter((i) => shown.has(tiles.worker[i]!));
  return tableOf(
    "Finished tiles",
    [
      ["Worker", (i) => workers[tiles.worker[i]!]!.name],
      ["Pass", (i) => passes[tiles.pass[i]!]!.pass],
      ["Unit", (i) => units[tiles.unit[i]!] ?? ""],
      ["From", (i) => tiles.from[i]!, count],
      ["To", (i) => tiles.to[i]!, count],
      ["Began, s", (i) => tiles.start[i]!, rate],
      ["Took", (i) => tiles.seconds[i]!, seconds],
      ["Processor time", (i) => tiles.processorSeconds[i]!, seconds],
      ["Tokens", (i) => tiles.tokens[i]!, count],
      ["Result", (i) => tiles.bytes[i]!, bytes],
      ["Repeated", (i) => (tiles.repeated[i] === 1 ? "repeated" : "")],
    ],
    rows,
  );
}
