import { startPage } from "../common/page";
import { RoutingView } from "./view";
import { t } from "../common/translate";

startPage("routing", t("Routing"), (services) => new RoutingView(services));
