/** How quantities of divergence are written in menus, notifications and trees. */

/** 0.03608 -> "0.0361"; nats a token, three significant digits. */
export function formatNats(value: number): string {
  return value === 0 ? "0" : value.toPrecision(3);
}
