import { startPage } from "../common/page";
import { DivergenceView } from "./view";

startPage("divergence", "Divergence", (services) => new DivergenceView(services));
