/** One number that Reroute shows: what it means, in which unit, and which file it comes from. docs/numbers.md lists the same. */
export interface NumberDefinition {
  name: string;
  unit: string;
  meaning: string;
  source: string;
}

export const numberDefinitions: readonly NumberDefinition[] = [
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
  {
    name: "Tokens routed",
    unit: "tokens",
    meaning: "Profiled tokens that were routed to the expert",
    source: "routing-statistics.safetensors layers.*.frequency",
  },
  {
    name: "Utilisation",
    unit: "share",
    meaning: "Tokens routed to the expert over all routed slots of the layer; an even load is 1 / experts",
    source: "routing-statistics.safetensors layers.*.frequency",
  },
  {
    name: "Coefficient of variation",
    unit: "none",
    meaning: "Standard deviation over mean of the layer's expert frequencies; 0 is even load",
    source: "routing-statistics.safetensors layers.*.frequency",
  },
  {
    name: "Normalised entropy",
    unit: "none",
    meaning: "Entropy of the utilisation over ln(experts); 1 is even load",
    source: "routing-statistics.safetensors layers.*.frequency",
  },
  {
    name: "Never used",
    unit: "experts",
    meaning: "Experts of the layer that no profiled token was routed to",
    source: "routing-statistics.safetensors layers.*.frequency",
  },
  {
    name: "Selected mass",
    unit: "share",
    meaning: "Mean over tokens of the selected experts' part of softmax(router logits)",
    source: "routing-statistics.safetensors layers.*.selectedMassSum",
  },
  {
    name: "Top-k margin",
    unit: "logits",
    meaning: "Mean over tokens of the smallest selected minus the largest unselected router logit",
    source: "routing-statistics.safetensors layers.*.topKMarginSum",
  },
  {
    name: "Token entropy",
    unit: "nats",
    meaning: "Mean over tokens of the entropy of softmax(router logits)",
    source: "routing-statistics.safetensors layers.*.tokenEntropySum",
  },
  {
    name: "Mean routing weight",
    unit: "none",
    meaning: "Mean of the number that multiplies the expert's output, over the tokens routed to it",
    source: "routing-statistics.safetensors layers.*.routingWeightSum",
  },
  {
    name: "REAP score",
    unit: "norm of hidden states",
    meaning: "Mean over the tokens routed to the expert of routing weight times the L2 norm of its output",
    source: "compression-plan.json layers.*.scores",
  },
  {
    name: "Routing KL",
    unit: "nats a token",
    meaning:
      "KL(teacher || student) of softmax(router logits) over the experts both have, the teacher's mass renormalised over them",
    source: "evaluation.json routing[].routingKl",
  },
  {
    name: "KL contribution",
    unit: "nats a token",
    meaning:
      "The expert's term of routing KL, mean over tokens; below 0 where the student likes it more than the teacher. Terms of a merged group are shared by its members in proportion to p_T",
    source: "evaluation.json routing[].klByExpert",
  },
  {
    name: "Routing L1",
    unit: "0 to 2",
    meaning:
      "Mean over tokens of sum_e |p_T(e) - p_S(e)| on the teacher's experts; dropped ones count 0 in the student",
    source: "evaluation.json routing[].l1",
  },
  {
    name: "Top-k overlap",
    unit: "share",
    meaning: "Mean share of the teacher's selected experts that the student selects too",
    source: "evaluation.json routing[].topKOverlap",
  },
  {
    name: "Training loss",
    unit: "nats a token",
    meaning:
      "Router KD loss of one optimiser update: KL to the teacher times temperature squared, mean over target positions",
    source: "metrics.jsonl kind update, loss",
  },
  {
    name: "Held-out KL",
    unit: "nats a token",
    meaning: "KL to the teacher on sequences of the calibration text that are never trained on",
    source: "metrics.jsonl kind held-out, kl",
  },
  {
    name: "Activated gate mass",
    unit: "share",
    meaning:
      "Mean over tokens of the router probability (softmax of the router logits, or sigmoids over their sum) of the experts that the teacher selects itself; the others have the rest",
    source: "distillation.json probe.gateMass",
  },
  {
    name: "KL of own routing to it",
    unit: "nats a token",
    meaning:
      "KL of the teacher under its own routing to the same teacher with n active experts of largest selection score, over target positions; beside it the loss under n",
    source: "distillation.json probe.rows",
  },
  {
    name: "KL of it to the student",
    unit: "nats a token",
    meaning: "KL of the teacher with n active experts to the student, over the same positions",
    source: "distillation.json probe.rows",
  },
  {
    name: "KL minus the baseline's",
    unit: "nats a token",
    meaning:
      "KL to the teacher under its own routing of one way of teaching minus that of the baseline, on the same sequences and seeds; the 95 % interval is a paired bootstrap over sequences, studentised for one seed, and over sequences and seeds for several",
    source: "distillation.json arms",
  },
  {
    name: "Teacher's time",
    unit: "seconds",
    meaning: "Wall time of a calibration that its teacher took: passes for targets, and steps of its routers",
    source: "distillation.json arms, metrics.jsonl kind update",
  },
  {
    name: "Router KL of trained routers",
    unit: "nats a token",
    meaning:
      "Mean over tokens of KL(p_own || p_trained) of router probabilities, the teacher's own routers and those that trained with the student, each at its own hidden states",
    source: "distillation.json routerKl",
  },
  {
    name: "Gradient norm",
    unit: "loss per weight",
    meaning: "L2 norm of the gradient over all trained tensors, before clipping",
    source: "metrics.jsonl kind update, gradientNorm",
  },
  {
    name: "Router-logit cosine",
    unit: "-1 to 1",
    meaning: "Cosine of two experts' router-logit columns over all profiled tokens",
    source: "routing-statistics.safetensors layers.*.logitGram",
  },
  {
    name: "Output cosine, output distance",
    unit: "-1 to 1; norm of hidden states",
    meaning: "Cosine and Euclidean distance of two experts' mean outputs over their routed tokens",
    source: "routing-statistics.safetensors layers.*.outputSum",
  },
  {
    name: "Weight cosine",
    unit: "-1 to 1",
    meaning: "Cosine of two experts' gate, up and down projections, all numbers of an expert as one vector",
    source: "routing-statistics.safetensors layers.*.weightCosine",
  },
  {
    name: "Efficiency of workers",
    unit: "share",
    meaning:
      "Processor seconds of tiles, each tile once, over threads x seconds that each eligible worker was there, from the first tile's start to the last one's end",
    source: "workers.jsonl processorSeconds, events; workers.json threads",
  },
  {
    name: "Busy share of workers",
    unit: "share",
    meaning:
      "Seconds that eligible workers spent on tiles, repeated ones included, over the seconds that they were there",
    source: "workers.jsonl tile start, end",
  },
  {
    name: "Workers at work",
    unit: "workers",
    meaning:
      "Mean over a pass: seconds that workers spent on its tiles over the seconds from its first tile to its last",
    source: "workers.json passes tileSeconds, wallSeconds",
  },
  {
    name: "Throughput",
    unit: "tokens/s",
    meaning: "Tokens of tiles, each tile's spread evenly over its seconds",
    source: "workers.jsonl tile tokens, start, end",
  },
  {
    name: "Surprise of a token (Playground)",
    unit: "nats",
    meaning: "-ln p(token), p the model's own over the whole vocabulary at temperature 1, the tokens before it given",
    source: "the Playground's export, responses[].scores.models[].nll",
  },
  {
    name: "KL at a token (Playground)",
    unit: "nats",
    meaning:
      "KL(teacher || student) of the two distributions that predict the token, on the same tokens before it, temperature 1, nothing cut off; rounding below 0 counts as 0",
    source: "the Playground's export, responses[].scores.models[].kl",
  },
  {
    name: "Experts of a token (Playground)",
    unit: "none",
    meaning:
      "Router rows that the token itself was routed to in the chosen layer, and the numbers that multiply their outputs, largest first",
    source: "the Playground's export, responses[].scores.models[].routing",
  },
  {
    name: "Seconds a token (Playground)",
    unit: "s",
    meaning:
      "Bytes of weights that a token reads over the measured bytes a second of this disk, where the weights do not fit the free memory; of experts as many as are expected to have a token",
    source: "the Playground, before anything runs",
  },
];
