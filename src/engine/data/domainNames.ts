/** Where all domains beyond the first 255 are counted: an index is one byte. */
export const otherDomain = "other";
const maxOwnDomains = 255;

/** Numbers domains in order of appearance. */
export class DomainNames {
  readonly #indices = new Map<string, number>();

  /** The index of a domain; from the 256th name on, that of {@link otherDomain}. */
  indexOf(domain: string): number {
    const known = this.#indices.get(domain);
    if (known !== undefined) return known;
    if (this.#indices.size < maxOwnDomains) return this.#add(domain);
    return this.#indices.get(otherDomain) ?? this.#add(otherDomain);
  }

  /** Names up to the largest index in use: the last documents read may have given no token. */
  namesUpTo(domainIds: Uint8Array): string[] {
    const largest = domainIds.reduce((most, id) => Math.max(most, id), 0);
    return [...this.#indices.keys()].slice(0, largest + 1);
  }

  #add(domain: string): number {
    const index = this.#indices.size;
    this.#indices.set(domain, index);
    return index;
  }
}
