import { startPage } from "../common/page";
import { OverviewView } from "./view";

startPage("overview", "Overview", (services) => new OverviewView(services));
