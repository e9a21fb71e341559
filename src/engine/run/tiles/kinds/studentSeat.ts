import { RerouteError } from "../../../../protocol/errors";
import { quote } from "../../../checkpoint/quote";
import { ModelExecutor } from "../../../execution/modelExecutor";
import { headsAreEqual, VocabularyHead } from "../../../execution/vocabularyHead";
import { withRoundedActivations } from "../../../model/roundedActivations";
import { readNamed } from "../inputFiles";
import type { TileOf } from "../tile";
import type { TileHost } from "./tileHost";

interface OpenStudent {
  executor: ModelExecutor;
  head: VocabularyHead;
}

/** The student that a worker trains for others, compiled and with its parameters, kept from tile to tile. */
export class StudentSeat {
  #open: { key: string; student: OpenStudent } | null = null;
  #parameters: string | null = null;

  /** The student with the tile's parameters. @throws RerouteError run/invalid where they are another model's */
  async with(tile: TileOf<"gradient" | "held-out">, sequenceLength: number, host: TileHost): Promise<OpenStudent> {
    const student = await this.#student(tile, sequenceLength, host);
    if (this.#parameters === tile.parameters.sha256) return student;
    const { parameters } = student.executor;
    const { values } = await readNamed(await host.store.input(tile.parameters));
    for (const [key, { length }] of parameters)
      if (values.get(key)?.length !== length)
        throw new RerouteError(
          "run/invalid",
          `The tile cannot be worked on: its parameters have no ${quote(key)} of ${length} numbers; start the run again`,
        );
    for (const [key, array] of values) parameters.set(key, array);
    this.#parameters = tile.parameters.sha256;
    return student;
  }

  async close(): Promise<void> {
    await this.#open?.student.executor.close();
    this.#open = null;
    this.#parameters = null;
  }

  async #student(
    { student: ofStudent, teacher: ofTeacher, options: { activations } }: TileOf<"gradient" | "held-out">,
    sequenceLength: number,
    host: TileHost,
  ): Promise<OpenStudent> {
    const key = `${ofStudent.fingerprint} ${ofTeacher.fingerprint} ${sequenceLength} ${activations ?? "exact"}`;
    if (this.#open?.key === key) return this.#open.student;
    await this.close();
    const [stored, teacher] = [await host.model(ofStudent), await host.model(ofTeacher)];
    const student = withRoundedActivations(stored, activations);
    const { runtime, scratchDirectory } = host;
    const options = { ...student, sequenceLength, runtime, scratchDirectory, direction: "backward" } as const;
    const executor = await ModelExecutor.open(options);
    const source = { source: teacher, sharedHead: await headsAreEqual(student, teacher) };
    const head = new VocabularyHead(student, executor.sessions, executor.plan.headPositions, source, executor.trained);
    this.#open = { key, student: { executor, head } };
    return this.#open.student;
  }
}
