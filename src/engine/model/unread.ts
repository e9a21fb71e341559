import type { UnreadTensors } from "../../protocol/checkpointSummary";
import { RerouteError } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { quote } from "../checkpoint/quote";
import type { ModelDescription } from "./description";
import { StoredParameters } from "./storedParameters";
import { isBesideDecoder, tensorRole } from "./tensorRoles";

/** Hostile names could make a group of every tensor. */
const maxGroups = 50;

/**
 * Tensors that the forward pass does not read, those that look like a part of the decoder first, in groups that differ in
 * numbers alone.
 */
export function unreadTensors(checkpoint: Checkpoint, description: ModelDescription): UnreadTensors[] {
  const stored = new StoredParameters(checkpoint);
  const groups = new Map<string, UnreadTensors>();
  for (const name of description.unusedTensors) {
    const entry = checkpoint.tensors.get(name);
    if (entry === undefined) continue;
    const ofDecoder = isOfDecoder(entry, description);
    const pattern = groups.size < maxGroups ? name.replace(/\d+/g, "*") : "others";
    const key = `${pattern} ${ofDecoder}`;
    let group = groups.get(key);
    if (group === undefined) groups.set(key, (group = { pattern, tensors: 0, parameters: 0, ofDecoder }));
    group.tensors++;
    group.parameters += stored.of(entry);
  }
  return [...groups.values()].sort((a, b) => Number(b.ofDecoder) - Number(a.ofDecoder) || b.parameters - a.parameters);
}

/**
 * Stops what would compute with another model than the stored one: weights inside the decoder that its family does not
 * read mean that config.json names another family or option than the weights were trained with (query norms left out
 * change logits by as much as they are large).
 * @throws RerouteError model/unread-tensors
 */
export function refuseUnread(checkpoint: Checkpoint, description: ModelDescription): void {
  const groups = unreadTensors(checkpoint, description).filter(({ ofDecoder }) => ofDecoder);
  if (groups.length === 0) return;
  const count = groups.reduce((sum, { tensors }) => sum + tensors, 0);
  const list = groups.slice(0, 3).map(({ pattern, tensors }) => `${quote(pattern)} (${tensors})`);
  throw new RerouteError(
    "model/unread-tensors",
    `${quote(checkpoint.directory)} holds ${count} weights of the decoder that nothing reads in a model of type ${description.family}: ${list.join(", ")}${groups.length > 3 ? ", ..." : ""}; ` +
      `its results would not be those of the stored model. Correct model_type and the options of config.json, or, where these weights are not wanted, remove them from the checkpoint`,
  );
}

/** Buffers that checkpoints of older libraries store and that are made anew, and what is left beside a quantised weight. */
const notAWeight = /(?:inv_freq|masked_bias|position_ids|causal_mask|_scale|_scale_inv|_scales|cos_cached|sin_cached)$/;

/** What trained weights are stored in. */
const weightDtypes: readonly string[] = ["BF16", "F16", "F32", "F64", "F8_E4M3"];

/**
 * Whether an unread tensor looks like a weight of the decoder: a float in one of its layers, its embedding, its norms or
 * its head. Layers behind the last, experts beyond those that the router names, and other parts do not.
 */
function isOfDecoder({ name, dtype }: TensorEntry, description: ModelDescription): boolean {
  if (!weightDtypes.includes(dtype) || notAWeight.test(name) || isBesideDecoder(name)) return false;
  const role = tensorRole(name);
  const stack = decoderStack(description);
  if (role.layer === null) {
    const prefix = stack.slice(0, stack.lastIndexOf(".") + 1);
    return name.startsWith("lm_head.") || (name.startsWith(prefix) && outsideLayers.test(name.slice(prefix.length)));
  }
  const layer = role.stack === stack ? description.layers[role.layer] : undefined;
  if (layer === undefined) return false;
  const { feedForward } = layer;
  return role.expert === null || (feedForward.kind === "moe" && role.expert < feedForward.numExperts);
}

/** Names that decoders give to what is outside their layers. */
const outsideLayers = /^(?:embed|norm|ln_|final_)\w*\./;

/** "model.layers", or where the family keeps the decoder's layers: told from a router, which every model has. */
function decoderStack({ layers }: ModelDescription): string {
  for (const { feedForward } of layers) {
    if (feedForward.kind === "moe") return tensorRole(feedForward.router.weight.tensor).stack;
  }
  return "model.layers";
}
