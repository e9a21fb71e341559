import { startPage } from "../common/page";
import { OverviewPage } from "./view";
import { t } from "../common/translate";

startPage("overview", t("Overview"), (services) => new OverviewPage(services));
