import { startPage } from "../common/page";
import { SimilarityView } from "./view";

startPage("similarity", "Similarity", (services) => new SimilarityView(services));
