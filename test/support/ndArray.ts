/** A dense array of doubles, row-major; integers and booleans (0 or 1) are doubles too. */
export interface NdArray {
  shape: readonly number[];
  data: Float64Array;
}

export function ndArray(shape: readonly number[], values: ArrayLike<number>): NdArray {
  if (values.length !== sizeOf(shape)) throw new Error(`${values.length} values for shape [${shape.join(", ")}]`);
  return { shape, data: Float64Array.from(values) };
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** An array whose element at each index is computed from that index. */
export function fromIndices(shape: readonly number[], element: (index: number[]) => number): NdArray {
  const data = new Float64Array(sizeOf(shape));
  const index = shape.map(() => 0);
  for (let flat = 0; flat < data.length; flat++) {
    data[flat] = element(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      if (index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
  return { shape, data };
}

/** Position in `data` of the element at an index. */
export function offsetOf(shape: readonly number[], index: readonly number[]): number {
  return index.reduce((offset, i, axis) => offset * shape[axis]! + i, 0);
}

export function at(array: NdArray, index: readonly number[]): number {
  return array.data[offsetOf(array.shape, index)]!;
}

/** The element that broadcasting puts at an index of a larger shape (NumPy's rule). */
export function atBroadcast(array: NdArray, index: readonly number[]): number {
  const own = index.slice(index.length - array.shape.length);
  return at(
    array,
    own.map((i, axis) => (array.shape[axis] === 1 ? 0 : i)),
  );
}

/** The shape that broadcasting several shapes gives. */
export function broadcast(...shapes: (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
}
