import { serveUpdateThread } from "../../src/engine/distillation/sideBySide/updateThread";

/** What threads run where the program is a test. */
void serveUpdateThread();
