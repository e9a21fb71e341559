import { afterAll, describe, expect, it } from "vitest";
import { cholesky, invertLower, solveSymmetric } from "../../../src/engine/linalg/cholesky";
import { assignRows } from "../../../src/engine/linalg/hungarian";
import { leadingEigen, leadingSubspace } from "../../../src/engine/linalg/leadingEigen";
import {
  identity,
  matrix,
  randomMatrix,
  squaredNorm,
  subtract,
  trace,
  type Matrix,
} from "../../../src/engine/linalg/matrix";
import { MatrixProducts } from "../../../src/engine/linalg/products";
import { symmetricEigen } from "../../../src/engine/linalg/symmetricEigen";
import { truncatedSvd } from "../../../src/engine/linalg/truncatedSvd";
import { createRandom } from "../../../src/engine/tensor/random";
import { processorMs } from "../../support/processorTime";

const products = new MatrixProducts({ threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 });
afterAll(() => products.close());

const relative = (a: Matrix, b: Matrix) => Math.sqrt(squaredNorm(subtract(a, b)) / Math.max(1e-300, squaredNorm(b)));
const scaledRows = ({ rows, columns, data }: Matrix, scale: ArrayLike<number>) =>
  matrix(
    rows,
    columns,
    data.map((value, i) => value * scale[Math.floor(i / columns)]!),
  );

/** A matrix whose columns shrink geometrically from 1 to `smallest`, seen from a random direction. */
function decaying(rows: number, columns: number, smallest: number): Matrix {
  const base = randomMatrix(rows, columns, 7);
  return matrix(
    rows,
    columns,
    base.data.map((value, i) => value * smallest ** ((i % columns) / columns)),
  );
}

describe("products on the engine", () => {
  const rows: [number, number, number, boolean, boolean][] = [
    [1, 1, 1, false, false],
    [3, 5, 2, true, false],
    [3, 5, 2, false, true],
    [64, 70, 33, true, true],
    [64, 70, 33, false, false],
    [0, 4, 3, false, false],
    [4, 0, 3, false, false],
  ];
  it.each(rows)("%i x %i x %i, transposed %s %s", async (m, k, n, transA, transB) => {
    const a = randomMatrix(transA ? k : m, transA ? m : k, 1);
    const b = randomMatrix(transB ? n : k, transB ? k : n, 2);
    const c = await products.multiply(a, b, transA, transB);
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++)
          sum += a.data[transA ? p * m + i : i * k + p]! * b.data[transB ? j * k + p : p * n + j]!;
        expect(Math.abs(c.data[i * n + j]! - sum)).toBeLessThan(1e-10);
      }
    }
  });
});

describe("cholesky", () => {
  it.each([1, 2, 7, 96, 97, 300])("reproduces a positive definite matrix of size %i", async (n) => {
    const a = await products.gramOfRows(randomMatrix(n, n + 5, n));
    const { lower, shift } = await cholesky(products, a);
    expect(shift).toBe(0);
    expect(relative(await products.multiply(lower, lower, false, true), a)).toBeLessThan(1e-12);
    expect(relative(await products.multiply(await invertLower(products, lower), lower), identity(n))).toBeLessThan(
      1e-8,
    );
    const b = randomMatrix(n, 3, 9);
    expect(relative(await products.multiply(a, await solveSymmetric(products, a, b)), b)).toBeLessThan(1e-6);
  });
  it("shifts a singular matrix, and a zero one", async () => {
    const a = await products.gramOfRows(randomMatrix(40, 10, 3));
    const { lower, shift } = await cholesky(products, a);
    expect(shift).toBeLessThan(1e-6);
    expect(relative(await products.multiply(lower, lower, false, true), a)).toBeLessThan(1e-5);
    expect((await cholesky(products, matrix(3, 3))).shift).toBeGreaterThan(0);
  });
  it("refuses NaN", async () => {
    await expect(cholesky(products, matrix(1, 1, [NaN]))).rejects.toMatchObject({ code: "checkpoint/not-finite" });
  });
});

describe("eigenpairs and singular values", () => {
  it.each([1, 2, 3, 10, 64, 150])("all of a symmetric matrix of size %i", async (n) => {
    const random = randomMatrix(n, n, n);
    const a = matrix(
      n,
      n,
      random.data.map((value, i) => value + random.data[(i % n) * n + Math.floor(i / n)]!),
    );
    const { values, vectors } = symmetricEigen(a);
    expect(relative(await products.multiply(vectors, vectors, false, true), identity(n))).toBeLessThan(1e-10);
    const image = await products.multiply(vectors, a);
    expect(relative(image, scaledRows(vectors, values))).toBeLessThan(1e-10);
    expect([...values]).toEqual([...values].sort((x, y) => y - x));
  });
  it.each([
    ["zero", matrix(4, 4)],
    ["identity", identity(5)],
    ["diagonal", matrix(3, 3, [2, 0, 0, 0, 3, 0, 0, 0, 1])],
  ])("of a special matrix: %s", (_name, a) => {
    const { values, vectors } = symmetricEigen(a);
    expect(values.reduce((s, v) => s + v, 0)).toBeCloseTo(
      [...a.data].filter((_, i) => i % (a.rows + 1) === 0).reduce((s, v) => s + v, 0),
    );
    expect(squaredNorm(vectors)).toBeCloseTo(a.rows);
  });
  it("NaN is an error, not a loop", () =>
    expect(() => symmetricEigen(matrix(3, 3, new Array<number>(9).fill(NaN)))).toThrow(/NaN/));

  const shapes: [number, number, number, number][] = [
    [40, 30, 10, 1e-2],
    [30, 40, 30, 1e-3],
    [320, 400, 40, 1e-3],
    [400, 320, 60, 1e-1],
    [300, 300, 20, 1],
  ];
  it.each(shapes)(
    "svd of %i x %i, %i values, decay to %f: residuals below 1e-5",
    async (rows, columns, count, decay) => {
      const a = decaying(rows, columns, decay);
      const { singularValues, left, right } = await truncatedSvd(products, a, count);
      expect(singularValues.length).toBe(count);
      expect(relative(await products.multiply(left, left, false, true), identity(count))).toBeLessThan(1e-5);
      expect(relative(await products.multiply(right, right, false, true), identity(count))).toBeLessThan(1e-5);
      expect(relative(await products.multiply(left, a), scaledRows(right, singularValues))).toBeLessThan(1e-5);
      expect(relative(await products.multiply(right, a, false, true), scaledRows(left, singularValues))).toBeLessThan(
        1e-5,
      );
      // Nothing larger was missed: the rest has the energy that the whole spectrum leaves.
      const all = symmetricEigen(
        rows < columns ? await products.gramOfRows(a) : await products.gramOfColumns(a),
      ).values;
      const energy = (values: Float64Array) => values.reduce((s, v) => s + v, 0);
      expect(energy(singularValues.map((s) => s * s)) / energy(all.slice(0, count))).toBeCloseTo(1, 7);
    },
  );

  it("a flat spectrum stops by energy, near the optimum", async () => {
    const gram = await products.gramOfRows(randomMatrix(320, 1000, 4));
    const { values } = await leadingEigen(products, gram, 100, { stop: "energy" });
    const best = symmetricEigen(gram)
      .values.slice(0, 100)
      .reduce((s, v) => s + v, 0);
    expect(values.reduce((s, v) => s + v, 0) / best).toBeGreaterThan(0.9995);
  });

  it.each([1e-1, 1e-3, 1e-6, 1e-9])(
    "by energy, a spectrum that decays to %f loses next to nothing",
    async (smallest) => {
      const gram = await products.gramOfColumns(decaying(400, 300, smallest));
      const { values, vectors } = await leadingEigen(products, gram, 120, { stop: "energy" });
      const all = symmetricEigen(gram).values;
      const sum = (of: Float64Array) => of.reduce((s, v) => s + v, 0);
      expect(sum(all.slice(0, 120)) - sum(values)).toBeLessThan(1e-5 * sum(all));
      expect(relative(await products.multiply(vectors, vectors, false, true), identity(120))).toBeLessThan(1e-8);
      const span = await leadingSubspace(products, gram, 120);
      expect(relative(await products.multiply(span, span, false, true), identity(120))).toBeLessThan(1e-8);
      const seen = await products.multiply(await products.multiply(span, gram), span, false, true);
      expect(sum(all.slice(0, 120)) - trace(seen)).toBeLessThan(3e-5 * sum(all));
      // By residual, twelve orders of magnitude and more once had no end.
      const exact = await leadingEigen(products, gram, 120);
      expect(exact.values[0]! / all[0]!).toBeCloseTo(1, 10);
      expect(exact.values.every(Number.isFinite)).toBe(true);
    },
  );

  it("rank below the asked one gives zeros", async () => {
    const thin = await products.multiply(randomMatrix(300, 5, 1), randomMatrix(5, 290, 2));
    const { singularValues, left, right } = await truncatedSvd(products, thin, 12);
    expect(singularValues[5]! / singularValues[0]!).toBeLessThan(1e-6);
    const again = await products.multiply(left, scaledRows(right, singularValues), true, false);
    expect(relative(again, thin)).toBeLessThan(1e-5);
  });
});

describe("assignment", () => {
  function bruteForce(cost: Float64Array, n: number): number {
    const search = (row: number, free: number[]): number =>
      row === n
        ? 0
        : Math.min(
            ...free.map(
              (c) =>
                cost[row * n + c]! +
                search(
                  row + 1,
                  free.filter((x) => x !== c),
                ),
            ),
          );
    return search(
      0,
      Array.from({ length: n }, (_, i) => i),
    );
  }
  it.each([1, 2, 3, 4, 5, 6, 7, 8])("equals brute force for size %i", (n) => {
    for (let trial = 0; trial < (n < 8 ? 20 : 3); trial++) {
      const random = createRandom(trial, n);
      // Whole numbers in half of the trials: ties.
      const cost = Float64Array.from({ length: n * n }, () => (trial % 2 === 0 ? random.normal() : random.below(4)));
      const chosen = assignRows(cost, n);
      expect(new Set(chosen).size).toBe(n);
      expect(chosen.reduce((sum, column, row) => sum + cost[row * n + column]!, 0)).toBeCloseTo(
        bruteForce(cost, n),
        10,
      );
    }
  });
  it("finds a hidden permutation of 768 in under a second, also with equal costs", () => {
    const n = 768;
    const random = createRandom(5);
    const cost = Float64Array.from({ length: n * n }, () => random.uniform());
    const started = processorMs();
    const chosen = assignRows(cost, n);
    expect(processorMs() - started).toBeLessThan(1000);
    expect(new Set(chosen).size).toBe(n);
    expect([...assignRows(new Float64Array(n * n), n)]).toEqual(Array.from({ length: n }, (_, i) => i));
  });
  it("refuses NaN", () => expect(() => assignRows(Float64Array.of(NaN), 1)).toThrow(/row 0, column 0/));
});
