/** Numbers as people read them, or a dash where there is none; exports keep the full precision. */
import { formatBytes, formatCount, formatDuration } from "../../src/protocol/quantities";

const none = "–";

/** At most `digits` significant digits; very small and very large ones in powers of ten. */
export function decimal(value: number | null, digits = 4): string {
  if (value === null) return none;
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  // Rounding of float32 models, not a result.
  if (magnitude < 1e-12) return "0 (< 10⁻¹²)";
  if (magnitude < 1e-3 || magnitude >= 1e7) return exponential(value, digits);
  return grouped(String(Number(value.toPrecision(digits))));
}

/** A whole number with thousands separators. */
export function count(value: number | null): string {
  return value === null ? none : grouped(String(Math.round(value)));
}

/** A share 0..1 as a percentage. */
export function percent(value: number | null): string {
  return value === null ? none : `${decimal(value * 100, 3)} %`;
}

const orNone =
  (format: (value: number) => string) =>
  (value: number | null): string =>
    value === null ? none : format(value);

export const bytes = orNone(formatBytes);
export const parameters = orNone(formatCount);
export const duration = orNone(formatDuration);

/** Thousands separators by hand: the first use of Intl costs some 20 ms, which the first picture would wait for. */
function grouped(digits: string): string {
  const [whole, fraction] = digits.split(".");
  const separated = whole!.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? separated : `${separated}.${fraction}`;
}

function exponential(value: number, digits: number): string {
  const [mantissa, exponent] = value.toExponential(Math.max(0, digits - 2)).split("e");
  const superscript = exponent!.replace("+", "").replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]!);
  return `${Number(mantissa)}·10${superscript}`;
}
