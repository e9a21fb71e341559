import { startPage } from "../common/page";
import { OverviewPage } from "./view";

startPage("overview", "Overview", (services) => new OverviewPage(services));
