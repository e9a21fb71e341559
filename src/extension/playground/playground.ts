import { errorCodeOf, isCancelled, RerouteError } from "../../protocol/errors";
import type { GenerationPrompt } from "../../protocol/generation";
import type {
  PlaygroundData,
  PlaygroundModel,
  PlaygroundQuestion,
  PlaygroundRun,
  PlaygroundScores,
  PlaygroundSource,
  PlaygroundToken,
  PlaygroundUpdate,
} from "../../protocol/playground";
import type { GenerationModel, ScoredText } from "../../protocol/scoring";
import type { EngineClient } from "../engine/client";
import type { Settings } from "../settings";

export interface PlaygroundParts {
  engine: Pick<EngineClient, "request" | "onEvent">;
  /** The machine's part of a request. */
  settings: () => Pick<Settings, "memory" | "threads" | "provider">;
  post: (change: PlaygroundUpdate) => void;
}

/** Tokens go to the page this often, ms: drawing each as it comes would slow a fast model down. */
const postEvery = 80;

let asked = 0;

/**
 * One Playground: its checkpoints answer a prompt one after another, as jobs of the engine, then every response is scored by
 * all of them. What the page shows is kept here, since a hidden page forgets it.
 */
export class Playground {
  private run: PlaygroundRun | null = null;
  private texts: ScoredText[] | null = null;
  private described: { key: string; models: Promise<PlaygroundModel[]> } | null = null;
  private stop: AbortController | null = null;
  private unposted: { column: number; from: number; tokens: PlaygroundToken[] } | null = null;
  private timer: NodeJS.Timeout | null = null;

  constructor(private readonly parts: PlaygroundParts) {}

  /** What the page shows of these checkpoints. Others than before: what was there is forgotten. */
  async show(sources: readonly PlaygroundSource[]): Promise<PlaygroundData> {
    const key = JSON.stringify(sources);
    if (this.described?.key !== key) {
      this.forget();
      this.described = { key, models: this.describe(sources) };
    }
    return { models: await this.described.models, run: this.run };
  }

  /** Ends what it works on, and forgets it. */
  forget(): void {
    this.stop?.abort();
    this.stop = null;
    this.run = null;
    this.texts = null;
    this.described = null;
    this.unposted = null;
  }

  cancel(): void {
    this.stop?.abort();
  }

  /** @throws RerouteError arguments/invalid while it works, without a checkpoint, or where one cannot be asked */
  async start(question: PlaygroundQuestion): Promise<void> {
    const models = await this.described?.models;
    if (this.stop) throw new RerouteError("arguments/invalid", "The Playground is still at work; cancel that first");
    if (!models || models.length === 0) throw new RerouteError("arguments/invalid", "No checkpoint was chosen");
    const problem = models.find((model) => model.problem !== null);
    if (problem) throw new RerouteError("arguments/invalid", `${problem.name}: ${problem.problem ?? ""}`);
    const stop = new AbortController();
    this.stop = stop;
    this.texts = null;
    const run: PlaygroundRun = {
      ...{ state: "waiting", model: 0, question, scored: 0, scores: null, problem: null },
      columns: models.map(() => ({ tokens: [], finish: null, metrics: null })),
    };
    this.run = run;
    this.tell(run);
    void this.work(run, models, stop);
  }

  /** The scores in another layer; null before there are any. */
  layer(layer: number): PlaygroundScores | null {
    if (!this.texts || !this.run) return null;
    this.run.scores = scoresIn(this.texts, layer);
    return this.run.scores;
  }

  private async work(run: PlaygroundRun, models: readonly PlaygroundModel[], stop: AbortController): Promise<void> {
    try {
      const ids = await this.generate(run, models, stop.signal);
      run.problem = differenceIn(models);
      if (run.problem === null) await this.score(run, models, ids, stop.signal);
      run.state = "done";
    } catch (error) {
      run.state = isCancelled(error) ? "cancelled" : "failed";
      if (run.state === "failed")
        run.problem = `${errorCodeOf(error)}: ${error instanceof Error ? error.message : String(error)}`;
    } finally {
      if (this.stop === stop) this.stop = null;
      this.flush();
      this.tell(run);
    }
  }

  /** The responses' token ids, one checkpoint after another: never are two in memory. */
  private async generate(
    run: PlaygroundRun,
    models: readonly PlaygroundModel[],
    signal: AbortSignal,
  ): Promise<number[][]> {
    const ids: number[][] = [];
    for (const [m, { folder }] of models.entries()) {
      const id = `playground-${++asked}`;
      const column = run.columns[m]!;
      run.model = m;
      const stopListening = this.parts.engine.onEvent((event) => {
        if (event.name !== "generation/event" || event.body.id !== id) return;
        const heard = event.body.event;
        if (run.state === "waiting" || heard.kind === "planned") {
          run.state = "generating";
          this.tell(run);
        }
        if (heard.kind !== "token") return;
        const token = { id: heard.id, text: heard.text };
        this.add(m, column.tokens.push(token) - 1, token);
      });
      try {
        const { seed, ...options } = run.question.options;
        const { responses, metrics } = await this.parts.engine.request(
          "generation/start",
          {
            id,
            checkpoint: folder,
            prompts: [promptOf(run.question)],
            options: { ...options, seed },
            ...this.machine(),
          },
          signal,
        );
        const { promptTokens, secondsToFirstToken, stepsPerSecond, seconds } = metrics;
        column.finish = responses[0]!.finish;
        column.metrics = { promptTokens, secondsToFirstToken, stepsPerSecond, seconds };
        ids.push(responses[0]!.ids);
      } finally {
        stopListening();
      }
      this.flush();
      this.tell(run);
    }
    return ids;
  }

  private async score(
    run: PlaygroundRun,
    models: readonly PlaygroundModel[],
    ids: number[][],
    signal: AbortSignal,
  ): Promise<void> {
    const id = `playground-${++asked}`;
    run.state = "scoring";
    this.tell(run);
    let told = 0;
    const stopListening = this.parts.engine.onEvent((event) => {
      if (event.name !== "generation/scored" || event.body.id !== id) return;
      run.scored = event.body.done / event.body.total;
      if (run.scored - told < 0.05) return;
      told = run.scored;
      this.tell(run);
    });
    try {
      const teacher = models.findIndex(({ role }) => role === "teacher");
      const prompt = promptOf(run.question);
      const { texts } = await this.parts.engine.request(
        "generation/score",
        {
          ...{
            id,
            models: models.map(({ folder }) => folder),
            teacher: teacher < 0 ? null : teacher,
            ...this.machine(),
          },
          texts: ids.map((response, author) => ({ author, prompt, ids: response })),
        },
        signal,
      );
      this.texts = texts;
      run.scores = scoresIn(texts, null);
    } finally {
      stopListening();
    }
  }

  private async describe(sources: readonly PlaygroundSource[]): Promise<PlaygroundModel[]> {
    const teacher = sources.find(({ role }) => role === "teacher");
    const { memory } = this.parts.settings();
    return Promise.all(
      sources.map(async (source): Promise<PlaygroundModel> => {
        try {
          const about = await this.parts.engine.request("generation/describe", {
            checkpoint: source.folder,
            ...(memory === null ? {} : { memory }),
            ...(teacher && teacher !== source ? { teacher: teacher.folder } : {}),
          });
          return { ...source, about: aboutOf(about), problem: null };
        } catch (error) {
          return { ...source, about: null, problem: error instanceof Error ? error.message : String(error) };
        }
      }),
    );
  }

  private machine() {
    const { memory, threads, provider } = this.parts.settings();
    return { ...(memory === null ? {} : { memory }), ...(threads === null ? {} : { threads }), provider };
  }

  /** Tells the page of the run, unless another has begun. */
  private tell(run: PlaygroundRun): void {
    if (run === this.run) this.parts.post({ run });
  }

  private add(column: number, from: number, token: PlaygroundToken): void {
    if (this.unposted?.column !== column) this.flush();
    this.unposted ??= { column, from, tokens: [] };
    this.unposted.tokens.push(token);
    this.timer ??= setTimeout(() => this.flush(), postEvery);
  }

  private flush(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    if (this.unposted) this.parts.post(this.unposted);
    this.unposted = null;
  }
}

function promptOf({ prompt, chat, system }: PlaygroundQuestion): GenerationPrompt {
  if (!chat) return { text: prompt };
  const before = system === "" ? [] : [{ role: "system", content: system }];
  return { messages: [...before, { role: "user", content: prompt }] };
}

/** Why the responses cannot be compared token by token; null: they can. */
function differenceIn(models: readonly PlaygroundModel[]): string | null {
  const differing = models.find(({ about }) => about !== null && about.tokenizerDifference !== null);
  if (!differing) return null;
  return `${differing.name} has another tokenizer than the teacher (${differing.about?.tokenizerDifference ?? ""}): the responses are not compared`;
}

function aboutOf({ forecast, ...about }: GenerationModel): NonNullable<PlaygroundModel["about"]> {
  const { stepBytes, secondsPerStep, cacheBytesPerSequence } = forecast;
  return { ...about, stepBytes, secondsPerStep, cacheBytesPerSequence };
}

/** The scores in one layer, the first with experts where none is named. */
function scoresIn(texts: readonly ScoredText[], wanted: number | null): PlaygroundScores {
  const found = texts.flatMap(({ models }) => models.flatMap(({ routing }) => routing.map(({ layer }) => layer)));
  const layers = [...new Set(found)].sort((a, b) => a - b);
  const layer = wanted !== null && layers.includes(wanted) ? wanted : (layers[0] ?? null);
  return {
    ...{ layers, layer },
    texts: texts.map(({ pieces, models }) => ({
      pieces,
      models: models.map(({ nll, kl, routing }) => {
        const own = routing.find((one) => one.layer === layer);
        if (!own) return { nll, kl, routing: null };
        const { layer: _, ...rest } = own;
        return { nll, kl, routing: rest };
      }),
    })),
  };
}
