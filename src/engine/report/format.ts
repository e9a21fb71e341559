/** Text made safe inside HTML, attributes included. Names in reports come from untrusted files. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** Text made safe inside a Markdown table cell or line. */
export function escapeMarkdown(text: string): string {
  return text.replace(/[\r\n]+/g, " ").replace(/[\\`*_{}[\]<>|#!~$&]/g, "\\$&");
}

/** 19.66 B, 1.54 M, 820. */
export function formatCount(value: number): string {
  const units: [number, string][] = [
    [1e12, " T"],
    [1e9, " B"],
    [1e6, " M"],
    [1e3, " k"],
  ];
  const unit = units.find(([size]) => value >= size);
  return unit ? `${threeDigits(value / unit[0])}${unit[1]}` : String(Math.round(value));
}

/** 39.3 GB, decimal as disks are sold. */
export function formatBytes(value: number): string {
  const text = formatCount(value).replace(" B", " G").replace(" k", " k");
  return /[TGMk]$/.test(text) ? `${text}B` : `${text} B`;
}

/** Four significant digits for values near one, scientific for tiny ones. */
export function formatNumber(value: number): string {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude >= 1e6 || magnitude < 1e-4) return value.toExponential(2);
  if (magnitude >= 1000) return value.toFixed(0);
  return trimZeros(value.toPrecision(4));
}

/** 42 s, 3 min 10 s, 2 h 05 min. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

export function formatPercent(share: number): string {
  return `${trimZeros((100 * share).toFixed(1))} %`;
}

/** A number that may be unknown, by one of the formats above; a dash where it is. */
export function formatOptional(value: number | null, format: (value: number) => string): string {
  return value === null ? "–" : format(value);
}

function threeDigits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function trimZeros(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
