import { escapeHtml } from "./format";

/** What the report's charts are drawn with: pieces of SVG, positions in pixels. */

export function svg({ title, width, height }: { title: string; width: number; height: number }, body: string): string {
  return `<svg role="img" aria-label="${escapeHtml(title)}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${body}</svg>`;
}

export function figure(title: string, body: string): string {
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><div class="scroll">${body}</div></figure>`;
}

export function text(x: number, y: number, content: string, anchor: "start" | "middle" | "end"): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escapeHtml(content)}</text>`;
}

/** The vertical axis's title, beside the middle of the axis. */
export function yTitle(middle: number, content: string): string {
  return `<text x="12" y="${middle}" text-anchor="middle" transform="rotate(-90 12 ${middle})">${escapeHtml(content)}</text>`;
}

/** The part of an axis that values take up; equal values get some room around them. */
export function extent(values: readonly number[]): { low: number; span: number } {
  const low = values.reduce((least, v) => Math.min(least, v), Infinity);
  const high = values.reduce((most, v) => Math.max(most, v), -Infinity);
  return high > low ? { low, span: high - low } : { low: low - 0.5 * (Math.abs(low) || 1), span: Math.abs(low) || 1 };
}

export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
