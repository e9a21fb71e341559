import { startPage } from "../common/page";
import { CalibrationView } from "./view";
import { t } from "../common/translate";

startPage("calibration", t("Router KD"), (services) => new CalibrationView(services));
