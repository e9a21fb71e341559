import { startPage } from "../common/page";
import { t } from "../common/translate";
import { PlanPage } from "./view";

startPage("plan", t("Compression plan"), (services) => new PlanPage(services));
