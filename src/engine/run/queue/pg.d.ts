/** The part of pg that is used, as BullMQ describes it: its own types are a package of their own. */
declare module "pg" {
  import type { PgModule } from "bullmq";
  const pg: PgModule;
  export default pg;
}
