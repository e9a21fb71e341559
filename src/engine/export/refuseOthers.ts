import { RerouteError } from "../../protocol/errors";
import { quote } from "../checkpoint/quote";
import type { LayerDescription, ModelDescription, MoeDescription, SoftmaxAttention } from "../model/description";
import { llamaArchitectures, type LlamaArchitecture } from "./architectures";
import { attentionProblems, isPlainNorm, type Problems } from "./attentionProblems";

/** A model of which all that it computes is known to llama.cpp. */
export interface ExportableModel {
  architecture: LlamaArchitecture;
  description: ModelDescription;
  layers: ExportableLayer[];
  /** All sparse layers are alike. */
  moe: MoeDescription;
  attention: SoftmaxAttention;
}

export interface ExportableLayer extends LayerDescription {
  attention: SoftmaxAttention;
}

/**
 * Refuses what llama.cpp would compute otherwise: its loader ignores what it does not ask for.
 * @throws RerouteError model/unsupported-family, model/unsupported-option, naming what
 */
export function requireExportable(description: ModelDescription): ExportableModel {
  const architecture = llamaArchitectures[description.family];
  if (architecture === undefined) {
    throw new RerouteError(
      "model/unsupported-family",
      `Models of the family ${quote(description.family)} cannot be exported to GGUF; these can: ` +
        `${Object.keys(llamaArchitectures).join(", ")}. llama.cpp's own convert_hf_to_gguf.py may know it`,
    );
  }
  const layers = description.layers.map((layer): ExportableLayer => {
    const { attention } = layer;
    const kind = architecture.attention === "latent" ? "latent" : "grouped-query";
    if (attention.kind === kind) return { ...layer, attention };
    return refuse(architecture, layer, `attention of the kind ${attention.kind}`);
  });
  const sparse = layers.flatMap(({ feedForward }) => (feedForward.kind === "moe" ? [feedForward] : []));
  const moe = sparse[0];
  if (moe === undefined) {
    throw new RerouteError(
      "model/not-moe",
      "The model has no layer with experts; export it with llama.cpp's converter",
    );
  }
  const { attention } = layers[0]!;
  const first = layers.findIndex(({ feedForward }) => feedForward.kind === "moe");
  for (const layer of layers) {
    const isLeading = layer.index < first && architecture.leadingDense;
    const own: Problems =
      layer.feedForward.kind === "moe"
        ? moeProblems(architecture, moe, layer.feedForward)
        : [[!isLeading, "a dense layer behind or without leading dense layers"]];
    const problems = [
      ...layerProblems(architecture, layer),
      ...attentionProblems(architecture, attention, layer, layers.length),
      ...own,
    ];
    const found = problems.find(([isWrong]) => isWrong);
    if (found) refuse(architecture, layer, found[1]);
  }
  const { head, embedding, finalNorm } = description;
  const whole: Problems = [
    [head.bias !== null, "a bias of the head"],
    [head.softcap !== undefined, "capped logits"],
    [!architecture.multipliers && (head.scale !== 1 || embedding.multiplier !== 1), "multiplied embeddings or logits"],
    [!isPlainNorm(finalNorm), "a final norm other than RMSNorm"],
  ];
  const found = whole.find(([isWrong]) => isWrong);
  if (found) refuse(architecture, null, found[1]);
  return { architecture, description, layers, moe, attention };
}

function layerProblems({ multipliers }: LlamaArchitecture, layer: LayerDescription): Problems {
  const { inputNorm, postAttentionNorm, residualMultiplier, feedForwardMultiplier } = layer;
  const residuals = residualMultiplier !== 1 || feedForwardMultiplier !== 1;
  return [
    [!isPlainNorm(inputNorm) || !isPlainNorm(postAttentionNorm), "norms other than RMSNorm, or none"],
    [layer.attentionOutputNorm !== null || layer.feedForwardOutputNorm !== null, "norms on the output of its parts"],
    [layer.parallel, "attention and experts side by side"],
    [layer.scalar !== undefined, "a multiplier of its own"],
    [multipliers ? residualMultiplier !== feedForwardMultiplier : residuals, "multiplied residuals"],
  ];
}

function moeProblems(
  { routing: allowed, shared, clampedWithBiases }: LlamaArchitecture,
  first: MoeDescription,
  moe: MoeDescription,
): Problems {
  const { routing, router } = moe;
  const sizes = ({ numExperts, numExpertsPerToken, intermediateSize }: MoeDescription) =>
    `${numExpertsPerToken} of ${numExperts} experts ${intermediateSize} wide`;
  const renormalises =
    routing.kind === "sparse-mixer"
      ? false
      : routing.renormalise || (routing.kind === "softmax" && routing.softmax === "after");
  return [
    [sizes(moe) !== sizes(first), `${sizes(moe)}, where others have ${sizes(first)}`],
    [JSON.stringify(routing) !== JSON.stringify(first.routing), "another routing than other layers"],
    [routing.kind !== allowed.scores, `${routing.kind} routing`],
    [
      allowed.renormalises !== "written" && renormalises !== allowed.renormalises,
      renormalises ? "renormalised routing weights" : "routing weights that are not renormalised",
    ],
    [!allowed.scales && routing.kind !== "sparse-mixer" && routing.scalingFactor !== 1, "multiplied routing weights"],
    [
      routing.kind !== "sparse-mixer" &&
        routing.groups !== null &&
        !(allowed.groups && routing.groups.score === "sum-of-two"),
      "experts that are chosen by groups, or by groups scored otherwise",
    ],
    [
      routing.kind !== "sparse-mixer" && routing.keepsMass !== undefined,
      "another number of active experts than its own",
    ],
    [!allowed.correctionBias && router.correctionBias !== null, "a correction bias"],
    [
      (router.bias !== null && !clampedWithBiases) || router.input !== undefined || router.expertScale !== undefined,
      "a router with more than weights",
    ],
    [clampedWithBiases === true && router.bias === null, "a router without a bias"],
    [moe.logicalToPhysical !== null, "more router rows than experts (router=map)"],
    [moe.experts.some(({ constant }) => constant !== undefined), "constant experts"],
    [
      moe.weightsInput === true || moe.routedMultiplier !== 1 || moe.routedNorm !== undefined,
      "experts weighted otherwise",
    ],
    [
      clampedWithBiases
        ? moe.activation.kind !== "clamped-swiglu"
        : !isSilu(moe.activation) || (moe.shared !== null && !isSilu(moe.shared.mlp.activation)),
      clampedWithBiases ? "an activation other than the clamped one" : "an activation other than SiLU",
    ],
    [
      clampedWithBiases ? !moe.experts.every(hasBias) : moe.experts.some(hasBias),
      clampedWithBiases ? "experts without biases" : "biases of experts",
    ],
    [shared === "none" && moe.shared !== null, "shared experts"],
    [(shared === "gated" || shared === "counted") && moe.shared === null, "no shared experts"],
    [moe.shared !== null && (moe.shared.gate !== null) !== (shared === "gated"), "shared experts gated otherwise"],
    [moe.shared?.inputNorm !== undefined || moe.shared?.outputNorm !== undefined, "shared experts with norms"],
    [
      shared === "counted" && (moe.shared?.mlp.intermediateSize ?? 0) % moe.intermediateSize !== 0,
      "shared experts of another width than routed ones",
    ],
  ];
}

function hasBias({ gateUp, downProj }: MoeDescription["experts"][number]): boolean {
  const linears =
    gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj, downProj] : [gateUp.projection, downProj];
  return linears.some(({ bias }) => bias !== null);
}

function isSilu(activation: MoeDescription["activation"]): boolean {
  return activation.kind === "gated" && activation.activation === "silu";
}

function refuse({ name }: LlamaArchitecture, layer: Pick<LayerDescription, "index"> | null, what: string): never {
  throw new RerouteError(
    "model/unsupported-option",
    `${layer === null ? "The model" : `Layer ${layer.index}`} has ${what}, which llama.cpp's architecture ${name} does not compute; ` +
      "it would load the file and give other numbers. Export another checkpoint of this run, or serve this one as safetensors",
  );
}
