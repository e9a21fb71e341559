import { startPage } from "../common/page";
import { t } from "../common/translate";
import { DistillationView } from "./view";

startPage("distillation", t("Distillation"), (services) => new DistillationView(services));
