// `npm run audit`: known vulnerabilities of what ships. `npm audit --omit dev` would miss packages that are bundled, and without
// --omit it reports tools that nobody gets.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { shippedFolders } from "./sbom.mjs";

/** Vulnerabilities of an `npm audit --json` answer that sit in one of the folders. */
export function findingsIn(answer, folders) {
  return Object.values(answer.vulnerabilities)
    .filter(({ nodes }) => nodes.some((node) => folders.includes(node)))
    .map(({ name, severity, via }) => {
      const titles = via.map((cause) => (typeof cause === "string" ? `through ${cause}` : cause.title));
      return `${name} (${severity}): ${titles.join("; ")}`;
    });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  if (!existsSync("out/metafile.json")) spawnSync(process.execPath, ["esbuild.mjs"], { stdio: "inherit" });
  const folders = shippedFolders(JSON.parse(readFileSync("out/metafile.json", "utf8")));
  const { stdout } = spawnSync("npm", ["audit", "--json"], { encoding: "utf8", shell: process.platform === "win32" });
  const answer = JSON.parse(stdout || "{}");
  if (answer.vulnerabilities === undefined) {
    const reason = answer.message ?? answer.error?.summary ?? "no answer";
    console.error(`audit: the registry's list of vulnerabilities cannot be asked: ${reason}`);
    process.exit(2);
  }
  const findings = findingsIn(answer, folders);
  for (const finding of findings) console.error(`audit: ${finding}`);
  console.log(`${folders.length} packages ship, ${findings.length} with known vulnerabilities`);
  process.exit(findings.length === 0 ? 0 : 1);
}
