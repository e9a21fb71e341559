/**
 * Limits on files that come from elsewhere. Each is well above what real checkpoints need and low enough that a crafted
 * file cannot exhaust memory.
 */

/** The reference implementation refuses larger headers, so no working checkpoint has one. */
export const maxHeaderBytes = 100_000_000;

/** The largest published MoE checkpoints (384 experts, 61 layers, block scales) have about 140,000 tensors. */
export const maxTensors = 500_000;

/** Above any real sharded model; stops a crafted index with millions of files. */
export const maxShards = 10_000;

/** One entry takes about 100 bytes, so this is enough for maxTensors. */
export const maxIndexBytes = 100_000_000;

/** Real config files are below 100 kB; some carry label lists or per-module quantisation settings. */
export const maxConfigBytes = 4_000_000;

/** Nesting of JSON values; real files stay below ten. */
export const maxJsonDepth = 64;

/** Axes of a tensor; weights have at most five. */
export const maxDims = 16;

/** Strings of `__metadata__`; real files have one to a few. */
export const maxMetadataEntries = 10_000;

/** Files that Reroute itself writes and reads whole (statistics, training state). */
export const maxWholeFileBytes = 16 * 2 ** 30;
