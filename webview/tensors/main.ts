import { startPage } from "../common/page";
import { TensorsView } from "./view";

startPage("tensors", "Tensors", (services) => new TensorsView(services));
