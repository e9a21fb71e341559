/** Bars along a common axis of time, in lanes. */
export interface LanesSpec {
  x: { title: string; format: (value: number | null) => string; max: number };
  /** Title of the lanes, e.g. "Worker", and their names, top first. */
  title: string;
  lanes: readonly string[];
  /** What bars are, by the colour's number. */
  kinds: readonly string[];
  /** Bars of each lane, in order of time. */
  bars: readonly (readonly LaneBar[])[];
  /** Points of time in a lane that are crossed. */
  crosses: readonly { lane: number; at: number }[];
}

export interface LaneBar {
  start: number;
  end: number;
  kind: number;
  /** Has a frame. */
  marked: boolean;
  /** What the cursor says of it. */
  describe: () => string;
}

/** Pixels. */
export interface LaneBox {
  left: number;
  top: number;
  width: number;
  height: number;
}
