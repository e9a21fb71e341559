export interface Component {
  "bom-ref": string;
  type: string;
  name: string;
  version?: string;
  scope?: string;
  purl?: string;
  hashes?: { alg: string; content: string }[];
  licenses?: { license: { id: string } }[];
}
export interface Sbom {
  bomFormat: string;
  specVersion: string;
  metadata: { component: Component };
  components: Component[];
  dependencies: { ref: string; dependsOn?: string[] }[];
}
export interface Metafile {
  outputs: Record<string, { inputs: Record<string, { bytesInOutput: number }> }>;
}
export function shippedFolders(metafile: Metafile): string[];
export function makeSbom(folders: string[], npmSbom: Sbom, natives?: string[]): Sbom;
export function makeNotices(folders: string[]): string;
export function npmSbom(): Sbom;
export function writeSbom(binaries: string | null): number;
