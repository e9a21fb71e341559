/** Lies in an output folder while it is being written and names the run that writes it; removed last. */
export const incompleteMarker = ".reroute-incomplete";

/** The name a file has until it is complete. */
export function partialName(name: string): string {
  return `.${name}.reroute-partial`;
}

export function isPartialName(name: string): boolean {
  return name.startsWith(".") && name.endsWith(".reroute-partial");
}
