import { startPage } from "../common/page";
import { DivergenceView } from "./view";
import { t } from "../common/translate";

startPage("divergence", t("Divergence"), (services) => new DivergenceView(services));
