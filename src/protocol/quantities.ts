/**
 * How quantities are written wherever people read them: panels, reports, command line, menus, messages. Files keep full
 * precision. One convention: three significant digits, a space before the unit, binary units for bytes.
 */

/** 8317392 -> "7.93 MiB"; 1 KiB = 1024 bytes, as `--memory` reads it. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
}

/** 30532122624 -> "30.5 B": parameters, tokens and operations in powers of a thousand. */
export function formatCount(count: number): string {
  return scaled(count, 1000, ["", "k", "M", "B", "T", "P"]);
}

/** 4.2 -> "4.2 s", 190 -> "3 min 10 s", 7500 -> "2 h 05 min", from two days on "3 d 4 h". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  const then = (rest: number, unit: string): string => (rest === 0 ? "" : ` ${String(rest).padStart(2, "0")} ${unit}`);
  if (whole < 3600) return `${Math.floor(whole / 60)} min${then(whole % 60, "s")}`;
  const minutes = Math.round(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h${then(minutes % 60, "min")}`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A rate: "512 tokens/s"; below one a second the time of one, "150 s an update". @param unit plural, as "updates" */
export function formatRate(perSecond: number, unit: string): string {
  if (unit === "bytes") return `${formatBytes(perSecond)}/s`;
  if (perSecond >= 1) return `${perSecond < 10 ? perSecond.toFixed(1) : formatCount(perSecond)} ${unit}/s`;
  if (!(perSecond > 0)) return `no ${unit} yet`;
  const one = unit.replace(/s$/, "");
  return `${formatDuration(1 / perSecond)} ${/^[aeio]|^u[^n]/.test(one) ? "an" : "a"} ${one}`;
}

/** Below this a difference or divergence of float32 models is rounding, not a result. */
const noise = 1e-12;

/** Four significant digits near one, powers of ten far from it; rounding noise is shown as such. */
export function formatNumber(value: number): string {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude < noise) return "0 (< 1e-12)";
  if (magnitude >= 1e6 || magnitude < 1e-4) return value.toExponential(2);
  if (magnitude >= 1000) return value.toFixed(0);
  return trimZeros(value.toPrecision(4));
}

/** 0.625 -> "62.5 %". */
export function formatPercent(share: number): string {
  return `${trimZeros((100 * share).toFixed(1))} %`;
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let rest = value;
  let unit = 0;
  // 999.5 would be written as 1000 of the smaller unit.
  while (Math.abs(rest) >= base * (1 - 5e-4) && unit < units.length - 1) {
    rest /= base;
    unit++;
  }
  const digits =
    unit === 0
      ? String(Math.round(rest))
      : rest >= 99.95
        ? rest.toFixed(0)
        : rest >= 9.995
          ? rest.toFixed(1)
          : rest.toFixed(2);
  return `${digits} ${units[unit]!}`.trim();
}

function trimZeros(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}
