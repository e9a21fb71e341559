import { serveEngineThread } from "../../src/engine/partThreads";

/** What threads run where the program is a test. */
void serveEngineThread();
