/** How quantities are written in menus, notifications and trees. */

const binaryUnits = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 8317392 -> "7.9 MiB". */
export function formatBytes(bytes: number): string {
  const power = Math.min(binaryUnits.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${binaryUnits[power]}`;
}

/** 30532122624 -> "30.5 B"; parameters and tokens count in thousands. */
export function formatCount(count: number): string {
  const units = ["", " K", " M", " B", " T"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, count)) / 3)));
  const value = count / 1000 ** power;
  return `${power === 0 ? Math.round(value) : value.toFixed(value >= 100 ? 0 : 1)}${units[power]}`;
}

/** 4210 -> "1 h 10 min"; below a minute in seconds. */
export function formatDuration(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** 0.03608 -> "0.0361"; nats a token, three significant digits. */
export function formatNats(value: number): string {
  return value === 0 ? "0" : value.toPrecision(3);
}
