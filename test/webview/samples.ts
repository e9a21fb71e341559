import type { WorkersPanelData } from "../../src/protocol/workersPanel";
import type { TensorRow } from "../../src/protocol/checkpointSummary";
import type { PlaygroundData, PlaygroundRun } from "../../src/protocol/playground";
import type { PageContext } from "../../src/protocol/pageMessages";
import type { OverviewData, PlanData, TensorsData } from "../../src/protocol/pageData";
import type {
  CalibrationPanelData,
  DivergenceData,
  DistillationPanelData,
  DivergencePanelData,
  EvaluatedText,
  ExpertPanelData,
  MatrixData,
  PlanMap,
  RoutingDomainData,
  RoutingPanelData,
  RunSummary,
  SimilarityMetric,
  SimilarityPanelData,
  TextPanelData,
  TradeOffPanelData,
} from "../../src/protocol/panels";

/** Panel data as an engine would send, seeded; sizes of a real model (48 layers of 128 experts) unless said otherwise. */

export const context: PageContext = {
  title: "olmoe-reap-0.625",
  source: { kind: "run", runDirectory: "/w/.reroute/runs/1" },
  live: false,
  colourScale: "viridis",
};

/** Mulberry32. */
export function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function routing(
  numLayers = 48,
  numExperts = 128,
  domains = ["code", "prose", "mathematics"],
): RoutingPanelData {
  const layers = Array.from({ length: numLayers }, (_, i) => i + 1);
  const neverUsed: [number, number][] = [];
  const domain = (seed: number, tokens: number, dead: boolean): RoutingDomainData => {
    const next = random(seed);
    const size = numLayers * numExperts;
    const frequency = Array.from({ length: size }, () => Math.floor(tokens * 0.002 * Math.exp(2 * next())));
    if (dead)
      for (const [layer, expert] of [
        [0, 3],
        [0, 17],
        [numLayers - 1, 0],
      ] as const)
        if (expert < numExperts) frequency[layer * numExperts + expert] = 0;
    const sums = layers.map((_, l) => frequency.slice(l * numExperts, (l + 1) * numExperts).reduce((a, b) => a + b, 0));
    const matrix = (values: (number | null)[]): MatrixData => ({ rows: numLayers, columns: numExperts, values });
    return {
      tokens,
      utilisation: matrix(frequency.map((f, i) => f / sums[Math.floor(i / numExperts)]!)),
      frequency: matrix(frequency),
      meanRoutingWeight: matrix(frequency.map((f) => (f === 0 ? null : 0.05 + 0.2 * next()))),
      layers: layers.map((layer, l) => ({
        layer,
        coefficientOfVariation: 0.4 + 0.5 * next(),
        normalisedEntropy: 0.85 + 0.1 * next(),
        neverUsed: frequency.slice(l * numExperts, (l + 1) * numExperts).filter((f) => f === 0).length,
        selectedMass: 0.5 + 0.3 * next(),
        topKMargin: 0.1 + 0.1 * next(),
        tokenEntropy: 2 + next(),
      })),
    };
  };
  const byDomain = Object.fromEntries([
    ["", domain(1, 1_536_000, true)],
    ...domains.map((name, i) => [name, domain(2 + i, 512_000, true)] as const),
  ]) as Record<string, RoutingDomainData>;
  byDomain[""]!.frequency.values.forEach((value, i) => {
    if (value === 0) neverUsed.push([layers[Math.floor(i / numExperts)]!, i % numExperts]);
  });
  return {
    checkpoint: "/models/olmoe",
    tokens: 1_536_000,
    numExpertsPerToken: 8,
    layers,
    numExperts,
    domains,
    byDomain,
    neverUsed,
  };
}

export function divergence(numLayers = 48, numExperts = 128): DivergencePanelData {
  const layers = Array.from({ length: numLayers }, (_, i) => i);
  const phase = (seed: number, factor: number): DivergenceData => {
    const next = random(seed);
    return {
      kl: {
        rows: numLayers,
        columns: numExperts,
        values: Array.from({ length: numLayers * numExperts }, (_, i) => {
          const value = factor * next() ** 4 * 0.02 - 0.0005;
          return (i * 7919) % 8 < 3 ? null : value;
        }),
      },
      byLayer: layers.map((layer) => ({
        layer,
        routingKl: factor * (0.1 + 0.1 * next()),
        l1: factor * (0.3 + 0.2 * next()),
        topKOverlap: 1 - factor * (0.3 + 0.1 * next()),
      })),
    };
  };
  return {
    teacher: "/models/olmoe",
    student: "/models/olmoe-reap",
    layers,
    numExperts,
    mapping: {
      kind: "kept",
      description: "80 of 128 experts kept per layer by reap; student expert i is the i-th kept teacher expert",
    },
    before: phase(11, 1),
    after: phase(12, 0.5),
  };
}

export function similarity(layer = 4, metric: SimilarityMetric = "router-logit-cosine", n = 128): SimilarityPanelData {
  const next = random(layer * 10 + metric.length);
  // Six families of experts: the dendrogram order puts each together.
  const family = Array.from({ length: n }, () => Math.floor(next() * 6));
  const values = new Array<number>(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      const value = i === j ? 1 : (family[i] === family[j] ? 0.6 : -0.05) + 0.25 * (next() - 0.5);
      values[i * n + j] = values[j * n + i] = metric === "output-distance" ? 2 - 2 * value : value;
    }
  const groupsAt = (from: number, to: number): number[] => order.slice(Math.floor(from * n), Math.ceil(to * n));
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => family[a]! - family[b]! || a - b);
  return {
    layers: [0, 4, 7],
    layer,
    metric,
    available: ["router-logit-cosine", "output-distance", "weight-cosine"],
    numExperts: n,
    matrix: { rows: n, columns: n, values },
    dendrogramOrder: order,
    groups: [groupsAt(0, 0.05), groupsAt(0.23, 0.33), groupsAt(0.5, 0.505).slice(0, 1)],
    dropped: [order[1]!, order[2]!, order[Math.floor(n / 2)]!],
  };
}

export function calibration(updates = 375): CalibrationPanelData {
  const next = random(5);
  return {
    updates: Array.from({ length: updates }, (_, i) => ({
      step: i + 1,
      loss: 0.08 + 0.5 * Math.exp(-i / 60) + 0.05 * next(),
      learningRate: 5e-5 * Math.min(1, (i + 1) / 12) * (1 - i / 400),
      gradientNorm: 0.5 + next(),
    })),
    heldOut: Array.from({ length: Math.floor(updates / 25) + 1 }, (_, i) => ({
      step: i * 25,
      kl: 0.1 + 0.5 * Math.exp(-(i * 25) / 60) + (i > 10 ? 0.004 * (i - 10) : 0),
      nll: 2.5,
      best: i === 10,
    })),
    totalUpdates: 400,
    bestStep: 250,
    verdict: {
      verdict: "recovered",
      text: "Recovered: KL to the teacher went from 0.6000 to 0.1077 nats a token, a gain of 0.4923 (95 % interval 0.4711 to 0.5102), 82.0 % of what compression cost.",
    },
  };
}

export function tradeOff(): TradeOffPanelData {
  const point = (run: string, stage: "teacher" | "before" | "after", gib: number, kl: number | null, nll: number) => ({
    run,
    runDirectory: `/w/.reroute/runs/${run}`,
    label: stage === "teacher" ? "OLMoE-1B-7B" : `${run} ${stage}`,
    group: { id: "olmoe-wiki", label: "OLMoE-1B-7B on wiki.jsonl, 96 x 512 tokens" },
    keep: stage === "teacher" ? null : "62.5 %",
    stage,
    method: stage === "teacher" ? null : run.split("-")[0]!,
    parametersTotal: gib * 0.5e9,
    bytes: gib * 1024 ** 3,
    klToTeacher: kl,
    nllPerToken: nll,
    klHalfWidth: kl === null || kl === 0 ? null : 0.02,
    nllHalfWidth: 0.03,
    tokensPerSecond: stage === "after" ? 512.5 : null,
    peakMemoryBytes: gib * 1.2 * 1024 ** 3,
  });
  return {
    points: [
      point("base", "teacher", 12.9, 0, 2.41),
      point("reap-0.625", "before", 8.6, 0.42, 2.8),
      point("reap-0.625", "after", 8.6, 0.21, 2.6),
      point("frequency-0.5", "before", 7.1, 0.91, 3.2),
      point("frequency-0.5", "after", 7.1, 0.47, 2.85),
      point("merge-0.75", "before", 10.1, 0.33, 2.7),
      point("merge-0.75", "after", 10.1, 0.3, 2.68),
      point("unfinished", "before", 9.5, null, 2.9),
      {
        ...point("aimer-0.5", "after", 7.1, 0.01, 1.2),
        group: { id: "olmoe-code", label: "OLMoE-1B-7B on code.jsonl, 96 x 512 tokens" },
      },
    ],
  };
}

export function run(name: string, state: RunSummary["state"], more: Partial<RunSummary> = {}): RunSummary {
  return {
    directory: `/w/.reroute/runs/${name}`,
    id: name,
    name,
    createdAt: "2026-11-22T10:00:00Z",
    state,
    stages: [],
    error: null,
    baseFolder: "/w",
    teacher: "/models/olmoe",
    output: "/models/out",
    method: "reap",
    verdict: null,
    klBefore: null,
    klAfter: null,
    tags: [],
    ...more,
  };
}

export function overview(): OverviewData {
  return {
    engine: { state: "ready", message: null },
    run: run("olmoe-reap-0.625", "running"),
    progress: {
      stage: "calibrate",
      message: "update 120 of 400",
      done: 120,
      total: 400,
      unit: "updates",
      remainingSeconds: 300,
    },
    runFraction: 0.55,
    runRemainingSeconds: 754,
    heldOut: calibration()
      .heldOut.slice(0, 6)
      .map(({ step, kl }, i) => ({ step, kl, best: i === 5 })),
    latestLoss: 0.1523,
    recentRuns: [
      run("frequency-0.5", "done", { klBefore: 0.91, klAfter: 0.47, verdict: "recovered" }),
      run("merge-0.75", "interrupted"),
    ],
    trusted: true,
  };
}

export function tensors(layers = 48, experts = 128): TensorsData {
  const rows: TensorRow[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const shard = `model-${String((layer % 5) + 1).padStart(5, "0")}-of-00005.safetensors`;
    rows.push({
      name: `model.layers.${layer}.mlp.gate.weight`,
      dtype: "BF16",
      shape: [experts, 2048],
      bytes: experts * 4096,
      shard,
    });
    for (let expert = 0; expert < experts; expert++)
      for (const projection of ["gate_proj", "up_proj", "down_proj"])
        rows.push({
          name: `model.layers.${layer}.mlp.experts.${expert}.${projection}.weight`,
          dtype: "BF16",
          shape: projection === "down_proj" ? [2048, 768] : [768, 2048],
          bytes: 768 * 2048 * 2,
          shard,
        });
  }
  return {
    file: "model-00001-of-00005.safetensors",
    tensors: rows,
    summary: {
      path: "/models/olmoe",
      modelType: "qwen3_moe",
      supported: true,
      unsupportedReason: null,
      parametersTotal: 30_532_122_624,
      parametersActive: 3_345_000_000,
      bytes: 61_064_245_248,
      shards: 5,
      tensors: rows.length,
      dtypes: { BF16: { tensors: rows.length, bytes: 61_064_245_248 } },
      vocabSize: 151_936,
      hiddenSize: 2048,
      numLayers: layers,
      numExpertsPerToken: 8,
      layers: Array.from({ length: layers }, (_, index) => ({
        index,
        parameters: 622_000_000,
        bytes: 1_244_000_000,
        moe: {
          numExperts: experts,
          routerTensor: `model.layers.${index}.mlp.gate.weight`,
          router: { parameters: 262_144, bytes: 524_288 },
          experts: { parameters: 603_979_776, bytes: 1_207_959_552 },
          sharedExperts: null,
        },
      })),
      otherParts: [],
      unread: [],
      notes: [],
      provenance: null,
    },
    summaryError: null,
    statisticsAvailable: true,
  };
}

/** A pruning plan as the engine shows it; the experts with the lowest scores are dropped. */
export function plan(numLayers = 48, numExperts = 128, kept = 80): PlanData {
  const next = random(9);
  const scores = Array.from({ length: numLayers * numExperts }, () => Math.exp(2 * next()) / 10);
  scores[numExperts + 3] = 0.05;
  const crossed: number[] = [];
  for (let row = 0; row < numLayers; row++) {
    const order = Array.from({ length: numExperts }, (_, e) => row * numExperts + e);
    crossed.push(...order.sort((a, b) => scores[a]! - scores[b]!).slice(0, numExperts - kept));
  }
  const isDropped = new Set(crossed);
  const shared = {
    columnTitle: "Expert",
    columns: Array.from({ length: numExperts }, (_, e) => String(e)),
    crossed,
    crossedMeaning: "dropped",
    nullMeaning: null,
  };
  const maps: PlanMap[] = [
    { ...shared, id: "scores", label: "Score (reap)", quantity: "score of reap", values: scores },
    {
      ...{ ...shared, id: "kept", label: "Kept or dropped", quantity: "kept" },
      values: scores.map((_, cell) => (isDropped.has(cell) ? 0 : 1)),
    },
  ];
  const text = `${kept} of ${numExperts} experts`;
  return {
    file: "compression-plan.json",
    view: {
      ...{ method: "reap", paradigm: "pruning", checkpoint: "olmoe", problem: null },
      sizes: {
        whole: { parameters: 30_532_122_624, bytes: 61_064_245_248 },
        planned: { parameters: 19_700_000_000, bytes: 39_400_000_000 },
      },
      layers: Array.from({ length: numLayers }, (_, i) => i),
      maps,
      amounts: [
        {
          layer: null,
          name: "",
          value: kept,
          min: Math.min(8, kept - 2),
          max: numExperts,
          step: 1,
          choices: null,
          text,
        },
      ],
      ...{ counts: "uniform", click: "keep", groups: [], notes: ["layer 1: 1 of 128 experts never routed"] },
    },
    readOnly: null,
    other: null,
  };
}

const words =
  " the| router| sends| each| token| to| a| few| experts|,| and| every| expert|\n| sees| what| it| knows|.".split("|");

/** The first tokens of a text in one layer. */
export function text(layer = 4, numTokens = 600, numExperts = 128, numExpertsPerToken = 4): TextPanelData {
  const next = random(layer + 20);
  const rows = Array.from({ length: numTokens }, () => {
    const first = Math.floor(next() * numExperts);
    const raw = Array.from({ length: numExpertsPerToken }, () => next()).sort((a, b) => b - a);
    const total = raw.reduce((sum, value) => sum + value, 0);
    return {
      experts: raw.map((_, s) => (first + 17 * s) % numExperts),
      weights: raw.map((value) => value / total),
    };
  });
  return {
    layers: [0, 4, 7],
    ...{ layer, numExperts, numExpertsPerToken, sequenceLength: 256 },
    tokens: Array.from({ length: numTokens }, (_, i) => words[i % words.length]!),
    experts: rows.flatMap(({ experts }) => experts),
    weights: rows.flatMap(({ weights }) => weights),
    entropy: Array.from({ length: numTokens }, () => Math.log(numExperts) * (0.3 + 0.7 * next())),
    evaluated: evaluatedText(numTokens),
  };
}

/** The first tokens of another text, in sequences of 32, with what a student's prediction of each was worth. */
export function evaluatedText(numTokens = 600, sequenceLength = 32): EvaluatedText {
  const next = random(3);
  const values = (scale: number): (number | null)[] =>
    Array.from({ length: numTokens }, (_, i) => (i % sequenceLength === 0 ? null : scale * -Math.log(1 - next())));
  return {
    sequenceLength,
    tokens: Array.from({ length: numTokens }, (_, i) => words[(i + 3) % words.length]!),
    before: { nll: values(3), kl: values(0.3) },
    after: { nll: values(2.9), kl: values(0.15) },
  };
}

/** Figures 1, 2, 4 and 5 of Every Expert Matters, with two ways of divergence by draws. */
export function distillation(numLayers = 6): DistillationPanelData {
  const next = random(numLayers + 5);
  const layers = Array.from({ length: numLayers }, (_, layer) => layer);
  const line = (name: string, xs: readonly number[], interval: number | null, y = next) => ({
    ...{ name, points: xs.map((x) => ({ x, y: y(), halfWidth95: interval })) },
  });
  return {
    figures: [
      {
        ...{ title: "Gate mass by layer", xAxis: "layer", yAxis: "share of router probability", rows: null },
        series: [line("activated", layers, null), line("others", layers, null)],
      },
      {
        ...{ title: "Quality by active experts", xAxis: "active experts", yAxis: "nats a token", rows: null },
        series: [
          line("loss of the teacher", [1, 2, 4, 8], 0.04),
          line("KL of its own routing to it", [1, 2, 4, 8], 0.01),
        ],
      },
      {
        ...{ title: "Students by how they were taught", xAxis: "arm", yAxis: "KL to the teacher, nats a token" },
        series: ["kd", "ka"].map((name, i) => line(name, [i], 0.05)),
        rows: {
          head: ["Arm", "Teacher"],
          cells: [
            ["kd", "forward, text"],
            ["ka", "reverse, text, 2 draws"],
          ],
        },
      },
      {
        ...{ title: "Students by draws of Knowledge Augmentation", xAxis: "draws", rows: null },
        yAxis: "KL to the teacher, nats a token",
        series: [line("reverse, text", [1, 2, 4], 0.05), line("reverse, on-policy", [1, 2, 4], 0.06)],
      },
      {
        ...{ title: "Routers that trained with the student", xAxis: "layer", rows: null },
        yAxis: "KL of the teacher's own routers to them, nats",
        series: [line("after 20 updates", layers, null), line("after 40 updates", layers, null)],
      },
    ],
  };
}

/** A Playground with a teacher and its student before and after, by default with responses that are scored. */
export function playground(numModels = 3, numTokens = 24, state: PlaygroundRun["state"] = "done"): PlaygroundData {
  const next = random(numModels + numTokens);
  const names = ["coarse", "coarse-reap (before)", "coarse-reap (after)"].slice(0, numModels);
  const options = {
    ...{ maxNewTokens: numTokens, minNewTokens: 0, doSample: true, temperature: 0.8, topK: 0, topP: 0.95 },
    ...{ minP: 0, repetitionPenalty: 1 },
  };
  const about = {
    ...{ family: "mixtral", contextLength: 512, hasChatTemplate: true, moeLayers: [0, 1], stepBytes: 8.2e6 },
    ...{ secondsPerStep: null, cacheBytesPerSequence: 1.2e6, tokenizerDifference: null, defaults: options },
  };
  const models = names.map((name, m) => ({
    ...{ name, folder: `/w/${name}`, role: m === 0 ? ("teacher" as const) : ("student" as const), problem: null },
    about: m === 1 ? { ...about, secondsPerStep: 2.5, stepBytes: 3.1e9 } : about,
  }));
  const pieces = Array.from({ length: numTokens }, (_, i) => words[i % words.length]!);
  const scoreOf = (m: number, numExperts: number) => ({
    nll: pieces.map(() => 4 * next()),
    kl: m === 0 ? null : pieces.map(() => (2 / m) * next() ** 4),
    routing: {
      ...{ numExperts, numExpertsPerToken: 2 },
      experts: pieces.flatMap(() => {
        const first = Math.floor(next() * numExperts);
        return [first, (first + 1) % numExperts];
      }),
      weights: pieces.flatMap(() => [0.6 + 0.2 * next(), 0.1]),
      teacherExperts: m === 0 ? null : [[0], [2], [5], [6]],
    },
  });
  const hasScores = state === "done";
  return {
    models,
    run: {
      ...{ state, model: numModels - 1, scored: hasScores ? 1 : 0, problem: null },
      question: { prompt: "In the beginning", chat: false, system: "", options: { ...options, seed: 7 } },
      columns: names.map(() => ({
        tokens: pieces.map((text, id) => ({ id, text })),
        finish: "max-new-tokens" as const,
        metrics: { promptTokens: 3, secondsToFirstToken: 0.21, stepsPerSecond: 41, seconds: 1.4 },
      })),
      scores: hasScores
        ? {
            ...{ layers: [0, 1], layer: 0 },
            texts: names.map(() => ({ pieces, models: names.map((_, m) => scoreOf(m, m === 0 ? 8 : 4)) })),
          }
        : null,
    },
  };
}

/** One expert as the engine describes it. */
export function expert(layer = 4, number = 17, more: Partial<ExpertPanelData> = {}): ExpertPanelData {
  const next = random(number);
  return {
    ...{ layer, expert: number, numExperts: 128, tokens: 10_000, routed: 900, meanRoutingWeight: 0.21 },
    domains: [
      { name: "code", tokens: 5000, routed: 800 },
      { name: "prose", tokens: 5000, routed: 100 },
    ],
    scores: [
      { method: "frequency", score: 900, place: 12, of: 128 },
      { method: "reap", score: 0.31, place: 97, of: 128 },
    ],
    fate: { dropped: true, text: "Dropped: its score by reap takes place 97 of 128, 80 stay" },
    top: Array.from({ length: 8 }, (_, i) => ({
      position: 40 + i,
      ...{
        sequence: 0,
        domain: "code",
        weight: 0.9 - 0.05 * i,
        before: "sends each",
        token: " token",
        after: " to a few\n",
      },
    })),
    similar: [
      { metric: "router-logit-cosine", values: Array.from({ length: 128 }, (_, e) => (e === number ? 1 : next())) },
      { metric: "output-distance", values: Array.from({ length: 128 }, (_, e) => (e === number ? 0 : next())) },
    ],
    ...more,
  };
}

/** A run spread over workers of hosts with eight each: a profile, then updates; one worker is lost, one is of another kind. */
export function workers(numWorkers = 6, tilesEach = 8, more: Partial<WorkersPanelData> = {}): WorkersPanelData {
  const next = random(numWorkers);
  const rows = Array.from({ length: numWorkers }, (_, worker) => {
    let at = next();
    return Array.from({ length: worker === 1 ? 0 : tilesEach }, (_, i) => {
      const pass = i < tilesEach / 2 ? 0 : 1;
      const seconds = (pass === 0 ? 20 : 5) * (0.8 + 0.4 * next());
      const row = { worker, pass, start: at, seconds, repeated: Number(worker === 2 && i === 3), from: 64 * i };
      at += seconds + 0.2 * next();
      return row;
    });
  });
  const all = rows.flat().sort((a, b) => a.start - b.start);
  const end = Math.max(0, ...all.map(({ start, seconds }) => start + seconds));
  const column = (of: (row: (typeof all)[number]) => number): number[] =>
    all.map((row) => Math.round(of(row) * 1e3) / 1e3);
  const spent = rows.map((own) => own.reduce((sum, { seconds }) => sum + seconds, 0));
  return {
    ...{ running: true, queue: "rediss://redis.lab:6380", about: "onnxruntime 1.30.0, cpu, Xeon (AVX-512)" },
    start: "2026-11-30T12:00:00.000Z",
    seconds: end,
    workers: rows.map((own, i) => ({
      name: `node-${Math.floor(i / 8)}-${i}`,
      host: `node-${Math.floor(i / 8)}`,
      ...{ threads: 8, about: "onnxruntime 1.30.0, cpu, Xeon (AVX-512)", tiles: own.length, layers: null },
      state: i === 3 ? ("lost" as const) : i % 5 === 4 ? ("idle" as const) : ("working" as const),
      reason: i === 1 ? "its arithmetic gives other bits (numerics 0f3a, AVX2)" : null,
      tile: i % 5 === 4 || i === 1 || i === 3 ? null : "gradient, batch 3 to 4",
      repeated: own.filter(({ repeated }) => repeated === 1).length,
      tokensPerSecond: i === 1 ? null : 1000 + 20 * i,
      presentSeconds: i === 1 ? 0 : end,
      ...{ tileSeconds: spent[i]!, processorSeconds: 8 * 0.95 * spent[i]! },
    })),
    passes: ["profile", "gradient"].map((name, pass) => ({
      pass: name,
      done: all.filter((row) => row.pass === pass).length,
      ...{ left: pass, repeated: pass === 0 ? 1 : 0 },
      tileSeconds: all.filter((row) => row.pass === pass).reduce((sum, { seconds }) => sum + seconds, 0),
      wallSeconds: end / 2,
    })),
    tiles: {
      worker: column(({ worker }) => worker),
      pass: column(({ pass }) => pass),
      start: column(({ start }) => start),
      seconds: column(({ seconds }) => seconds),
      processorSeconds: column(({ seconds }) => 7.6 * seconds),
      tokens: column(({ pass }) => (pass === 0 ? 32_768 : 512)),
      bytes: column(() => 2_300_000),
      repeated: column(({ repeated }) => repeated),
      from: column(({ from }) => from),
      to: column(({ from }) => from + 64),
      unit: column(({ pass }) => pass),
    },
    units: ["sequences", "batch"],
    events: [
      ...rows.map((_, worker) => ({ worker, at: 0, event: "joined" as const })),
      ...(numWorkers > 3 ? [{ worker: 3, at: end / 2, event: "lost" as const }] : []),
    ],
    ...{ efficiency: 0.8123, busy: 0.855 },
    ...more,
  };
}
