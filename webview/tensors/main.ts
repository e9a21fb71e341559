import { startPage } from "../common/page";
import { TensorsView } from "./view";
import { t } from "../common/translate";

startPage("tensors", t("Tensors"), (services) => new TensorsView(services));
