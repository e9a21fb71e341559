import { startPage } from "../common/page";
import { TradeOffView } from "./view";

startPage("tradeOff", "Trade-off", (services) => new TradeOffView(services));
