import { evaluationNumbers, type NumberDefinition } from "./evaluationDefinitions";

/** Every number that Reroute shows, in the order of docs/numbers.md. */
export const numberDefinitions: readonly NumberDefinition[] = [
  ...evaluationNumbers,
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
    name: "Agreement of a preview",
    unit: "share, correlation",
    meaning:
      "Of a profile with precision preview, on up to 8 of its sequences run both ways: share of the experts that exact products select which are selected, over tokens and layers and of the worst layer; least Spearman correlation of a layer's REAP scores",
    source: "routing-statistics.safetensors metadata preview",
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
    name: "ROUGE-L of responses",
    unit: "F x 100",
    meaning:
      "Longest common subsequence of the words of a sampled response and of its answer, as F of precision and recall times 100; mean over instructions, seeds of students and of sampling, ± the standard deviation over those seeds",
    source: "distillation.json arms, scores.json",
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
