import { startPage } from "../common/page";
import { SimilarityView } from "./view";
import { t } from "../common/translate";

startPage("similarity", t("Similarity"), (services) => new SimilarityView(services));
