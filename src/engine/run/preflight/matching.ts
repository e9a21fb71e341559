import type { Recipe } from "../../../protocol/recipe";
import { mappingOfMade } from "../../compression/plan/expertMapping";
import { matchesRouterLogits } from "../../distillation/calibration";
import { matchMapping } from "../../distillation/match/matchMapping";
import { logitMapping } from "../../distillation/routerLogits";
import { readProvenance } from "../stages/outputs";
import type { OpenModel } from "../work";

/**
 * Whether what a calibration matches inside the models is in both of them.
 * @throws RerouteError what logitMapping and matchMapping raise
 */
export async function checkMatching(
  { calibrate }: Pick<Recipe, "calibrate">,
  student: OpenModel,
  teacher: OpenModel,
): Promise<void> {
  if (!calibrate || !(matchesRouterLogits(calibrate) || calibrate.match)) return;
  const experts = mappingOfMade(teacher.description, await readProvenance(student.checkpoint.directory));
  const [mine, theirs] = [student.description, teacher.description];
  if (matchesRouterLogits(calibrate)) logitMapping(mine, theirs, experts);
  if (calibrate.match) matchMapping(mine, theirs, calibrate.match, experts);
}
