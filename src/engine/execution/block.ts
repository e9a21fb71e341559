import { appendBackward, type Cotangent } from "../autodiff/backward";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { BlockWeights, weightKey } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type { ModelDescription, WeightView } from "../model/description";

export interface BlockContext {
  checkpoint: Checkpoint;
  hiddenSize: number;
  /** Weights given as graph inputs `weight:<key>`, with gradients as outputs `gradient:<key>`: routers, and what else trains. */
  trainable: ReadonlySet<string>;
  /** Experts that are compiled as one graph at most; absent: as many as compile quickly. */
  expertsPerGraph?: number;
  /** Whether experts whose products are in integers get their codes as inputs (previewCodes.ts). */
  codesAreGiven?: boolean;
  /** By layer number, [experts, I] 0 for units that forward passes leave out, else 1; looked at anew in each pass. */
  unitMasks?: ReadonlyMap<number, Float32Array>;
}

export interface LayerContext extends BlockContext {
  description: ModelDescription;
  sequenceLength: number;
}

/** Where every graph of a layer starts: its builder and weights, with the trainable ones as inputs. */
export class Block {
  readonly builder = new GraphBuilder();
  readonly weights: BlockWeights;
  readonly hidden: number;
  readonly #trainableInputs = new Map<string, Value>();

  constructor(readonly context: BlockContext) {
    this.hidden = context.hiddenSize;
    const { checkpoint, codesAreGiven } = context;
    this.weights = new BlockWeights(this.builder, checkpoint, this.#trainableInputs, "", codesAreGiven);
  }

  /** Declares the trainable weights among those that this block uses. */
  declareTrainable(views: readonly WeightView[]): void {
    for (const view of views) {
      const key = weightKey(view);
      if (this.context.trainable.has(key))
        this.#trainableInputs.set(key, this.builder.input(`weight:${key}`, view.shape));
    }
  }

  cotangent(name: string, output: Value): Cotangent {
    return { output, gradient: this.builder.input(name, output.shape) };
  }

  /**
   * Gradients with respect to each of `wrt`, zeros where nothing depends on it, and those of the trainable weights.
   * @param except a trainable weight whose gradient is made elsewhere
   */
  gradients(cotangents: readonly Cotangent[], wrt: readonly Value[], except?: string) {
    const trainable = [...this.#trainableInputs].filter(([key]) => key !== except);
    const all = [...wrt, ...trainable.map(([, value]) => value)];
    const gradients = appendBackward(this.builder, cotangents, all).map(
      (gradient, i) => gradient ?? this.#zeros(all[i]!),
    );
    const named = trainable.map(([key], i) => [`gradient:${key}`, gradients[wrt.length + i]!] as const);
    return { of: gradients.slice(0, wrt.length), trainable: Object.fromEntries(named) };
  }

  /** The graph of gradients with respect to named values and to the trainable weights, with other outputs beside them. */
  buildGradients(
    cotangents: readonly Cotangent[],
    wrt: Readonly<Record<string, Value>>,
    others: Readonly<Record<string, Value>> = {},
    except?: string,
  ): Graph {
    const { of, trainable } = this.gradients(cotangents, Object.values(wrt), except);
    const named = Object.keys(wrt).map((name, i) => [name, of[i]!] as const);
    return this.builder.build({ ...Object.fromEntries(named), ...trainable, ...others });
  }

  #zeros(value: Value): Value {
    return this.builder.expandLike(this.builder.constant([0]), value);
  }
}
