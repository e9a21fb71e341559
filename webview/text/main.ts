import { startPage } from "../common/page";
import { t } from "../common/translate";
import { TextView } from "./view";

startPage("text", t("Text"), (services) => new TextView(services));
