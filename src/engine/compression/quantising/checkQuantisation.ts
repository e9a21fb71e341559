import { RerouteError } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import type { LayerDescription, ModelDescription, MoeDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { projections } from "../layer/expertMatrices";
import { inputPlace } from "./inputScales";
import { mxfp4Group } from "../../weights/float4";
import { fusedProjections } from "./fusedBlocks";
import { outputFormats } from "./outputFormats";
import { formOf, type LayerForm } from "./quantisedTensors";
import { storedProjection } from "./storedProjection";

/**
 * Refuses models whose experts cannot be written so, or not by this method.
 * @throws RerouteError model/unsupported-option, plan/invalid
 */
export function checkQuantisation(plan: QuantisationPlan, description: ModelDescription): void {
  for (const { layer, moe } of moeLayers(description)) {
    checkLayer(formOf(plan, layer), layer, moe);
    if (plan.method === "awq") checkAwq(description.layers[layer]!, moe, plan.options?.["gateUp"] === true);
  }
}

/**
 * Refuses layers whose experts cannot be written so: fused tensors of a family that has no other layout, sizes that a group does
 * not divide.
 * @throws RerouteError model/unsupported-option, plan/invalid
 */
function checkLayer({ format, grid }: LayerForm, layer: number, moe: MoeDescription): void {
  const { storage, experts } = moe;
  const refuse = (what: string): never => {
    throw new RerouteError("model/unsupported-option", `Layer ${layer} ${what}`);
  };
  if (experts.some(({ constant }) => constant !== undefined))
    refuse(`has constant experts (MoNE), which no format of quantised experts has. Quantise before they are made`);
  const fused = fusedProjections(moe);
  if (fused !== null && format === "mxfp4") {
    const { inputs } = fused.find((one) => one.inputs % mxfp4Group > 0) ?? {};
    if (inputs === undefined) return;
    throw new RerouteError(
      "plan/invalid",
      `Layer ${layer}: MXFP4's group of ${mxfp4Group} inputs does not divide the width ${inputs} of its experts`,
    );
  }
  if (storage.kind === "fused" ? storage.split === undefined : experts.some(({ gateUp }) => gateUp.kind === "joined")) {
    refuse(
      `stores its experts in fused tensors, and there are no names for one tensor a projection, which ${format} needs, that ` +
        `loaders would find. ${fused ? "The method mxfp4 writes its own layout" : "An export to GGUF quantises the families that llama.cpp knows"}`,
    );
  }
  for (const projection of projections) {
    const refusal = outputFormats[format].refusal(storedProjection(moe, 0, projection).size, grid(0));
    if (refusal === null) continue;
    throw new RerouteError("plan/invalid", `Layer ${layer}, ${projection} of its experts: ${refusal}`);
  }
}

/**
 * Refuses what AWQ's scales would change: an up projection that does not pass a factor on to down.
 * @throws RerouteError model/unsupported-option
 */
function checkAwq(layer: LayerDescription, moe: MoeDescription, gateUp: boolean): void {
  if (gateUp) inputPlace(layer, moe);
  const hasBias = moe.experts.some((expert) => expert.gateUp.kind === "separate" && expert.gateUp.upProj.bias !== null);
  if (moe.activation.kind === "gated" && !hasBias) return;
  throw new RerouteError(
    "model/unsupported-option",
    `Layer ${layer.index}: the scales of AWQ go through up's rows into down's columns, and here up ${
      hasBias ? "has a bias" : "is clamped"
    }; use the method gptq, which needs no scales`,
  );
}
