/** One number that Reroute shows: what it means, in which unit, and which file it comes from. docs/numbers.md lists the same. */
export interface NumberDefinition {
  name: string;
  unit: string;
  meaning: string;
  source: string;
}

/** Of a checkpoint: its size, its quality on held-out text, and what it costs to run. */
export const evaluationNumbers: readonly NumberDefinition[] = [
  {
    name: "Parameters",
    unit: "numbers",
    meaning: "Stored weights of the checkpoint, all experts included",
    source: "evaluation.json cost.parametersTotal",
  },
  {
    name: "Active parameters",
    unit: "numbers",
    meaning: "Weights that one token touches: everything but the experts it is not routed to",
    source: "evaluation.json cost.parametersActive",
  },
  { name: "Size", unit: "bytes", meaning: "Bytes of all tensors as stored", source: "evaluation.json cost.bytes" },
  {
    name: "Bits a weight",
    unit: "bits",
    meaning:
      "8 x bytes of the tensors that the parameters are stored in / parameters: codes, scales and zero points; tensors that nothing reads are left out",
    source: "evaluation.json cost.bitsPerWeight",
  },
  {
    name: "Bits a weight of experts",
    unit: "bits",
    meaning: "The same of the routed experts alone, their scales and zero points included",
    source: "evaluation.json cost.expertBitsPerWeight",
  },
  {
    name: "Activation memory",
    unit: "bytes",
    meaning:
      "Bytes of the largest run of one sequence through a layer, by the executor's own plan: inputs, results, rows at experts, and one widened weight",
    source: "evaluation.json cost.activationBytes",
  },
  {
    name: "FLOPs a token",
    unit: "floating-point operations",
    meaning: "Operations of one forward pass at the evaluated length, 2 per multiply-add",
    source: "evaluation.json cost.flopsPerToken",
  },
  {
    name: "Loss",
    unit: "nats a token",
    meaning: "Mean of -ln p(next token) over all target positions (every position of a sequence but its first token)",
    source: "evaluation.json nllPerToken",
  },
  { name: "Perplexity", unit: "none", meaning: "exp(loss)", source: "evaluation.json perplexity" },
  {
    name: "KL to the teacher",
    unit: "nats a token",
    meaning:
      "Mean over target positions of sum_v p_T(v) ln(p_T(v) / p_S(v)), p over the whole vocabulary, temperature 1",
    source: "evaluation.json klToTeacher",
  },
  {
    name: "Top-1 agreement",
    unit: "share",
    meaning: "Share of target positions where student and teacher have the same most likely token",
    source: "evaluation.json top1Agreement",
  },
  {
    name: "Task accuracy",
    unit: "share",
    meaning: "Share of multiple-choice items whose right choice has the largest sum of ln p(token) over its tokens",
    source: "evaluation.json task.accuracy",
  },
  {
    name: "Task accuracy by length",
    unit: "share",
    meaning: "The same with each sum divided by the characters of its choice",
    source: "evaluation.json task.accuracyNormalised",
  },
  {
    name: "± of a mean",
    unit: "as the mean",
    meaning:
      "Half the width of the 95 % bootstrap interval; whole sequences, or documents where one spans several, are drawn with replacement",
    source: "evaluation.json uncertainty",
  },
  {
    name: "Gain",
    unit: "nats a token",
    meaning:
      "Before minus after calibration on the same sequences, with the 95 % interval of a paired studentised bootstrap",
    source: "evaluation.json comparison",
  },
  {
    name: "Verdict",
    unit: "category",
    meaning:
      "recovered: the interval of the gain lies above 0; worse: below 0; no gain: it includes 0; too little text: fewer than 20 sequences, or documents where one spans several",
    source: "evaluation.json comparison.verdict",
  },
  {
    name: "Tokens a second",
    unit: "tokens / s",
    meaning:
      "Tokens over the time that the graphs of a model's layers run, the same work for teacher and student: median over chunks of sequences, with quartiles in the report. Heads, comparisons, compiling and disk are left out",
    source: "evaluation.json cost.tokensPerSecond",
  },
  {
    name: "Peak memory",
    unit: "bytes",
    meaning: "Largest sample of this process's resident memory without mapped files (Linux; elsewhere with them)",
    source: "evaluation.json cost.peakMemoryBytes, run.json stages[].peakMemoryBytes",
  },
  {
    name: "Exact selection",
    unit: "share",
    meaning:
      "Share of tokens for which student and teacher select the same experts and no others, each on its own hidden states",
    source: "evaluation.json routing[].exactSet",
  },
  {
    name: "Utilisation moved",
    unit: "share",
    meaning:
      "Half of sum_e |u_T(e) - u_S(e)| over the layer's experts, u their share of routed slots; dropped experts against 0, merged ones together",
    source: "evaluation.json routing[].load.totalVariation",
  },
  {
    name: "Dead experts",
    unit: "experts",
    meaning: "Experts that no evaluated token is routed to, of the student and of its teacher on the same text",
    source: "evaluation.json routing[].load",
  },
  {
    name: "Share of the teacher's size",
    unit: "share",
    meaning: "Bytes of all tensors over those of the teacher that was measured beside it; 1 for the teacher",
    source: "evaluation.json cost.bytes",
  },
  {
    name: "Time a token",
    unit: "share",
    meaning:
      "Time of the layers' graphs a token over the teacher's in the same run: the teacher's tokens a second over the checkpoint's own, on this machine and in this engine",
    source: "evaluation.json cost.tokensPerSecond",
  },
  {
    name: "Latency of one token",
    unit: "share",
    meaning:
      "Median wall time of decoding one token over the teacher's, where speed was measured; on this machine and in this engine",
    source: "evaluation.json cost.speed",
  },
];
