/** Numbers as people read them; exports keep the full precision. */

const none = "–";

/** At most `digits` significant digits; very small and very large ones in powers of ten. */
export function number(value: number | null, digits = 4): string {
  if (value === null) return none;
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude < 1e-3 || magnitude >= 1e7) return exponential(value, digits);
  return grouped(String(Number(value.toPrecision(digits))));
}

/** A whole number with thousands separators. */
export function count(value: number | null): string {
  return value === null ? none : grouped(String(Math.round(value)));
}

/** A share 0..1 as a percentage. */
export function percent(value: number | null): string {
  return value === null ? none : `${number(value * 100, 3)} %`;
}

/** Binary units: 1 KiB = 1024 bytes. */
export function bytes(value: number | null): string {
  return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
}

/** Decimal units, as model cards give parameters: "30.5B", without the space that bytes have. */
export function parameters(value: number | null): string {
  return scaled(value, 1000, ["", "K", "M", "B", "T"]).replace(" ", "");
}

/** "42 s", "3 min 5 s", "2 h 10 min". */
export function duration(seconds: number | null): string {
  if (seconds === null) return none;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Thousands separators by hand: the first use of Intl costs some 20 ms, which the first picture would wait for. */
function grouped(decimal: string): string {
  const [whole, fraction] = decimal.split(".");
  const separated = whole!.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? separated : `${separated}.${fraction}`;
}

function scaled(value: number | null, base: number, units: readonly string[]): string {
  if (value === null) return none;
  let rest = value;
  let unit = 0;
  while (Math.abs(rest) >= base && unit < units.length - 1) {
    rest /= base;
    unit++;
  }
  const digits = unit === 0 ? 15 : rest >= 1000 ? 4 : 3;
  return `${number(rest, digits)} ${units[unit]!}`.trim();
}

function exponential(value: number, digits: number): string {
  const [mantissa, exponent] = value.toExponential(Math.max(0, digits - 2)).split("e");
  const superscript = exponent!.replace("+", "").replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]!);
  return `${Number(mantissa)}·10${superscript}`;
}
