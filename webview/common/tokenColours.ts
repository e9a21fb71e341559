import type { Rgb } from "../../src/protocol/colourScales";
import type { ColourScale } from "../../src/protocol/pageMessages";
import { lookupTable, lutSize } from "./charts/colourScale";

/** A colour of its own for each expert: neighbours in number lie far apart in hue (the golden angle). */
export function expertColour(expert: number, isDark: boolean): Rgb {
  const hue = (expert * 137.508) % 360;
  return fromHsl(hue, 0.55, isDark ? 0.36 : 0.78);
}

/** The colour of a share 0..1 of the scale. */
export function scaleColour(share: number, scale: ColourScale | "diverging"): Rgb {
  const table = lookupTable(scale);
  const at = Math.round(Math.max(0, Math.min(1, share)) * (lutSize - 1)) * 3;
  return [table[at]!, table[at + 1]!, table[at + 2]!];
}

/** Black or white, whichever contrasts more (WCAG 2): at least 4.5 to 1 on any colour. */
export function textOn(colour: Rgb): "#000000" | "#ffffff" {
  const [r, g, b] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return (luminance + 0.05) ** 2 > 1.05 * 0.05 ? "#000000" : "#ffffff";
}

function fromHsl(hue: number, saturation: number, lightness: number): Rgb {
  const reach = saturation * Math.min(lightness, 1 - lightness);
  const channel = (n: number): number => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (lightness - reach * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}
