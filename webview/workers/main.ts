import { startPage } from "../common/page";
import { t } from "../common/translate";
import { WorkersView } from "./view";

startPage("workers", t("Workers"), (services) => new WorkersView(services));
