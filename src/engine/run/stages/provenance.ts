import type { Provenance } from "../../../protocol/provenance";
import type { RunFile } from "../../../protocol/run";

/**
 * What reroute.json says about the run. No times and no run folder: the same recipe on the same machine gives the same
 * bytes.
 */
export function provenanceOf(run: RunFile): Pick<Provenance, "reroute" | "recipe" | "seed" | "versions"> {
  const { reroute, recipe, versions } = run;
  return { reroute, recipe, seed: recipe.seed, versions };
}
