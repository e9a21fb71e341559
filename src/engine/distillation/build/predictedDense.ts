import type { BuildOptions } from "../../../protocol/denseStudent";
import { checkpointToCome, type PredictedModel } from "../../compression/predictedModel";
import { checkpointSize } from "../../compression/plannedSize";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import type { ModelDescription } from "../../model/description";
import { describeModel } from "../../model/families";
import { moeLayers } from "../../model/moeLayers";
import { denseStudent } from "./denseSibling";
import { expertCountOf } from "./expertCount";

/**
 * The dense student that will be built, as far as headers say it: whichever experts are chosen, they are of one size.
 * @throws RerouteError arguments/invalid for more experts than there are; model/unsupported-option
 */
export function predictedDense(
  teacher: { checkpoint: Checkpoint; description: ModelDescription; fingerprint: string },
  { experts }: Pick<BuildOptions, "experts">,
  directory: string,
): PredictedModel {
  const some = moeLayers(teacher.description).map(({ layer, moe }) => {
    const chosen = Array.from({ length: expertCountOf(moe, layer, experts) }, (_, e) => e);
    return [layer, { experts: chosen, scales: chosen.map(() => 1), residual: 0 }] as const;
  });
  const { config, tensors } = denseStudent(teacher, new Map(some));
  const checkpoint = checkpointToCome(directory, config, tensors);
  const { fingerprint } = teacher;
  return { checkpoint, ...describeModel(checkpoint), fingerprint, size: checkpointSize(checkpoint) };
}
