import { describe, expect, it } from "vitest";
import type { ModelDescription } from "../../../src/engine/model/description";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { isWeightView } from "../../../src/engine/model/parameters";
import { toReleasedStyle } from "../../support/goldens";
import { processorMs } from "../../support/processorTime";
import { addTensor, isVision, openGolden, type EditableCheckpoint } from "./goldens";
import { caught, errorOf } from "./refused";

const names = [...families.keys()];

describe.each(names)("%s", (name) => {
  const describeGolden = async (edit: (checkpoint: EditableCheckpoint) => void = () => undefined) => {
    const checkpoint = await openGolden(name);
    edit(checkpoint);
    return describeModel(checkpoint).description;
  };

  it("uses every tensor of the golden checkpoint, each view inside its tensor", async () => {
    const checkpoint = await openGolden(name);
    const { family, description } = describeModel(checkpoint);
    const unused = description.unusedTensors.filter((tensor) => !isVision(tensor));
    expect([family.modelType, description.family, unused]).toEqual([name, name, []]);
    for (const view of viewsOf(description)) {
      const entry = checkpoint.tensors.get(view.tensor)!;
      const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
      expect(view.dtype).toBe(entry.dtype);
      expect(view.offset + size(view.shape)).toBeLessThanOrEqual(size(entry.shape));
    }
  });

  it("is the same from a config in released style", async () => {
    expect(await describeGolden(({ config }) => toReleasedStyle(config as Record<string, unknown>))).toEqual(
      await describeGolden(),
    );
  });

  it("names any tensor that is missing", async () => {
    const checkpoint = await openGolden(name);
    for (const [tensor, entry] of textTensors(checkpoint)) {
      checkpoint.tensors.delete(tensor);
      const error = errorOf(checkpoint);
      expect([tensor, error.code]).toEqual([tensor, "checkpoint/missing-tensor"]);
      expect(error.message).toContain(JSON.stringify(tensor));
      checkpoint.tensors.set(tensor, entry);
    }
  });

  it("names any tensor of another shape", async () => {
    const checkpoint = await openGolden(name);
    for (const [tensor, entry] of textTensors(checkpoint)) {
      checkpoint.tensors.set(tensor, {
        ...entry,
        shape: entry.shape.map((size, axis) => (axis === 0 ? size + 1 : size)),
      });
      const error = errorOf(checkpoint);
      expect([tensor, error.code]).toEqual([tensor, "checkpoint/shape-mismatch"]);
      expect(error.message).toContain(
        `${JSON.stringify(tensor)} in "model.safetensors" has shape [${entry.shape[0]! + 1}`,
      );
      checkpoint.tensors.set(tensor, entry);
    }
  });

  it("leaves tensors that the forward pass does not use untouched", async () => {
    const behind = `model.layers.${(await describeGolden()).layers.length}`;
    const extra = [`${behind}.mlp.gate.weight`, "mtp.0.proj.weight", `${behind}.eh_proj.weight`];
    const description = await describeGolden((checkpoint) =>
      extra.forEach((tensor) => addTensor(checkpoint, tensor, [4, 4])),
    );
    expect(description.unusedTensors.filter((tensor) => !isVision(tensor))).toEqual(extra);
  });

  it("reads tied embeddings from whichever tensor is there", async () => {
    const tied = (missing: string) =>
      describeGolden(({ config, tensors }) => {
        config["tie_word_embeddings"] = true;
        tensors.delete(missing);
      });
    const summary = ({ embedding, head }: ModelDescription) => [embedding.weight.tensor, head.weight.tensor, head.tied];
    const { embedding, head: untied } = await describeGolden();
    const [table, head] = [embedding.weight.tensor, untied.weight.tensor];
    expect(table).toMatch(/^(language_model\.)?model\.(language_model\.)?embed_tokens\.weight$/);
    expect(head).toMatch(/^(language_model\.)?lm_head\.weight$/);
    expect(summary(await tied(head))).toEqual([table, table, true]);
    expect(summary(await tied(table))).toEqual([head, head, true]);
    // transformers does not tie tensors that are both stored and differ.
    expect(summary(await tied("none"))).toEqual([table, head, false]);
  });

  it("notices a checkpoint pruned behind its config's back at the router", async () => {
    const checkpoint = await openGolden(name);
    const moe = describeModel(checkpoint).description.layers.find(
      (layer) => layer.feedForward.kind === "moe",
    )!.feedForward;
    if (moe.kind !== "moe") throw new Error("not MoE");
    checkpoint.config = families.get(name)!.withNumExperts(checkpoint.config, moe.numExperts * 2);
    const error = errorOf(checkpoint);
    expect(error.code).toBe("checkpoint/shape-mismatch");
    expect(error.message).toContain(
      `has shape [${moe.numExperts}, 32], config.json implies [${moe.numExperts * 2}, 32]`,
    );
    expect(error.message).toMatch(/experts = (16|32)\)\. Is this checkpoint already pruned\?$/);
  });

  it("lists every tensor with one entry per expert", async () => {
    const checkpoint = await openGolden(name);
    const { family, description } = describeModel(checkpoint);
    for (const { index, feedForward } of description.layers) {
      if (feedForward.kind !== "moe") continue;
      const listed = family.perExpertTensors(index).filter((tensor) => checkpoint.tensors.has(tensor.name));
      const { bias, correctionBias, expertScale = null } = feedForward.router;
      const expected = [bias, correctionBias, expertScale].flatMap((view) => (view ? [view.tensor] : []));
      expect(listed.map((tensor) => tensor.name)).toEqual(expected);
      for (const { name: tensor, axis } of listed)
        expect(checkpoint.tensors.get(tensor)!.shape[axis]).toBe(feedForward.numExperts);
    }
  });

  it("does not survive hostile configs as anything but a typed error", async () => {
    const checkpoint = await openGolden(name);
    const original = checkpoint.config;
    const hostile = [-1, 0, 1.5, 1e300, 2 ** 53, 2 ** 26, "8", "", true, [], [1], {}, { a: 1 }, NaN, "\u202e\n", null];
    const start = processorMs();
    for (const key of [
      ...Object.keys(original),
      "rope_scaling",
      "rope_theta",
      "expert_id_mapping",
      "quantization_config",
    ]) {
      for (const value of hostile) {
        checkpoint.config = { ...original, [key]: value };
        const error = caught(() => describeModel(checkpoint));
        if (error !== null)
          expect([key, value, (error as { name: string }).name]).toEqual([key, value, "RerouteError"]);
      }
    }
    // A config that claims 2^26 layers ends at the first one that has no tensors.
    expect(processorMs() - start).toBeLessThan(20_000);
  });
});

function textTensors({ tensors }: EditableCheckpoint) {
  return [...tensors].filter(([tensor]) => !isVision(tensor));
}

function viewsOf(part: unknown): { tensor: string; offset: number; shape: readonly number[]; dtype: string }[] {
  if (typeof part !== "object" || part === null) return [];
  return isWeightView(part) ? [part] : Object.values(part).flatMap(viewsOf);
}
