/** AdamW (Loshchilov and Hutter, arXiv 1711.05101) with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8. */
export interface AdamWState {
  /** First and second moments by parameter key, f32. */
  m: Map<string, Float32Array>;
  v: Map<string, Float32Array>;
  /** Updates done. */
  step: number;
}

const beta1 = 0.9;
const beta2 = 0.999;
const epsilon = 1e-8;

export function initAdamW(parameters: ReadonlyMap<string, Float32Array>): AdamWState {
  const zeros = () => new Map([...parameters].map(([key, { length }]) => [key, new Float32Array(length)]));
  return { m: zeros(), v: zeros(), step: 0 };
}

/**
 * One update, in place: w <- w - lr * weightDecay * w - lr * mHat / (sqrt(vHat) + epsilon), where mHat and vHat are the
 * moments corrected for their zero start.
 */
export function updateAdamW(
  state: AdamWState,
  parameters: ReadonlyMap<string, Float32Array>,
  gradients: ReadonlyMap<string, Float32Array>,
  learningRate: number,
  weightDecay: number,
  /** Parameters with a learning rate of their own and without weight decay, by key. */
  others: ReadonlyMap<string, number> = new Map(),
): void {
  state.step++;
  const correction1 = 1 - beta1 ** state.step;
  const correction2 = 1 - beta2 ** state.step;
  for (const [key, weights] of parameters) {
    const rate = others.get(key) ?? learningRate;
    const decay = others.has(key) ? 0 : weightDecay;
    const gradient = gradients.get(key)!;
    const m = state.m.get(key)!;
    const v = state.v.get(key)!;
    for (let i = 0; i < weights.length; i++) {
      const g = gradient[i]!;
      m[i] = beta1 * m[i]! + (1 - beta1) * g;
      v[i] = beta2 * v[i]! + (1 - beta2) * g * g;
      const step = m[i]! / correction1 / (Math.sqrt(v[i]! / correction2) + epsilon);
      weights[i] = weights[i]! * (1 - rate * decay) - rate * step;
    }
  }
}

/**
 * Scales gradients so that their global L2 norm is at most `limit`, as PyTorch's clip_grad_norm_ does.
 * @returns the norm before
 */
export function clipGlobalNorm(gradients: ReadonlyMap<string, Float32Array>, limit: number): number {
  let squares = 0;
  for (const gradient of gradients.values()) for (let i = 0; i < gradient.length; i++) squares += gradient[i]! ** 2;
  const norm = Math.sqrt(squares);
  const factor = limit / (norm + 1e-6);
  if (factor < 1) {
    for (const gradient of gradients.values()) for (let i = 0; i < gradient.length; i++) gradient[i]! *= factor;
  }
  return norm;
}
