import { startPage } from "../common/page";
import { WorkersView } from "./view";

startPage("workers", "Workers", (services) => new WorkersView(services));
