import { startPage } from "../common/page";
import { CalibrationView } from "./view";

startPage("calibration", "Router KD", (services) => new CalibrationView(services));
