import { startPage } from "../common/page";
import { RoutingView } from "./view";

startPage("routing", "Routing", (services) => new RoutingView(services));
