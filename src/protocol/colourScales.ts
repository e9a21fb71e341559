import type { ColourScale } from "./pageMessages";

/**
 * Colours of heatmaps, in panels and in reports. Sequential scales rise monotonically in lightness, also as people with colour
 * blindness see them; a test computes both. Viridis and cividis (Nunez, Anderton and Renslow 2018): evenly spaced samples of
 * matplotlib's tables; the signed scale: ColorBrewer PuOr.
 */
export const colourStops: Record<ColourScale | "diverging", readonly string[]> = {
  viridis: ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"],
  cividis: ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"],
  greys: ["141414", "303030", "4c4c4c", "686868", "858585", "a2a2a2", "c0c0c0", "dedede", "fcfcfc"],
  diverging: ["2d004b", "542788", "8073ac", "b2abd2", "f7f7f7", "fdb863", "e08214", "b35806", "7f3b08"],
};

export type Rgb = readonly [number, number, number];

/** A scale's colour at 0 to 1: red, green and blue of 0 to 255, not rounded. */
export function colourAt(scale: keyof typeof colourStops, at: number): Rgb {
  const stops = colourStops[scale];
  const position = at * (stops.length - 1);
  const index = Math.min(stops.length - 2, Math.floor(position));
  const [from, to] = [rgb(stops[index]!), rgb(stops[index + 1]!)];
  return [0, 1, 2].map((c) => from[c]! + (to[c]! - from[c]!) * (position - index)) as unknown as Rgb;
}

/** The same as CSS writes it: #rrggbb. */
export function colourOf(scale: keyof typeof colourStops, at: number): string {
  const channels = colourAt(scale, at).map((channel) => Math.round(channel).toString(16).padStart(2, "0"));
  return `#${channels.join("")}`;
}

function rgb(hex: string): Rgb {
  return [0, 2, 4].map((i) => Number.parseInt(hex.slice(i, i + 2), 16)) as unknown as Rgb;
}
