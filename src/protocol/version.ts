import { version } from "../../package.json";

/** Version of Reroute, as package.json has it; the bundler puts it in. */
export const engineVersion = version;
