import { startPage } from "../common/page";
import { t } from "../common/translate";
import { PlaygroundView } from "./view";

startPage("playground", t("Playground"), (services) => new PlaygroundView(services));
