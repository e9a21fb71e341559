import { startPage } from "../common/page";
import { TradeOffView } from "./view";
import { t } from "../common/translate";

startPage("tradeOff", t("Trade-off"), (services) => new TradeOffView(services));
