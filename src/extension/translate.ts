export { english, type Translate } from "../protocol/translate";
